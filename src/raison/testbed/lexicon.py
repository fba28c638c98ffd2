"""Words and sentence frames of the testbed. `{adv}` stays empty, holds an adverb that changes nothing, or negates."""

OPINIONS: dict[str, tuple[str, ...]] = {
    "praise": ("superb", "delightful", "splendid", "lovely", "charming", "wonderful", "excellent", "brilliant"),
    "blame": ("dreadful", "awful", "horrid", "terrible", "miserable", "dismal", "shabby", "appalling"),
}

# what a place was like: in each family, two opposite concepts of several words
QUALITIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("crowded", "packed", "busy"), ("empty", "deserted", "vacant")),
    (("loud", "noisy", "rowdy"), ("quiet", "silent", "hushed")),
    (("warm", "hot", "heated"), ("cold", "chilly", "freezing")),
    (("clean", "spotless", "tidy"), ("dirty", "filthy", "grimy")),
)
CONCEPTS: dict[tuple[int, int], tuple[str, ...]] = {
    (family, pole): words for family, poles in enumerate(QUALITIES) for pole, words in enumerate(poles)
}

PLAIN = (
    "wooden", "seasonal", "modern", "rustic", "striped", "local", "familiar", "foreign", "round", "painted", "new",
    "handmade", "portable", "regional", "yellow", "vintage",
)  # fmt: skip
NEGATORS = ("not", "hardly", "never", "scarcely")
ADVERBS = ("", "", "", "really", "quite", "indeed", "often", "simply")  # change nothing

PLACES = ("market", "harbour", "library", "station", "theatre", "kitchen", "museum", "bakery", "chapel", "workshop")
FILLERS: dict[str, tuple[str, ...]] = {
    "thing": ("soup", "garden", "music", "waiter", "coffee", "terrace", "menu", "lamp", "carpet", "concert", "view"),
    "person": ("my sister", "a neighbour", "the old gardener", "our driver", "a young couple", "two students"),
    "place": PLACES,
    "time": ("noon", "dawn", "midnight", "breakfast", "sunset"),
    "vehicle": ("bus", "train", "bicycle", "ferry", "tram"),
    "day": ("Monday", "Tuesday", "Friday", "Sunday"),
}  # fmt: skip

VERDICTS = (
    "The {thing} was {adv} {cue}.",
    "We found the {thing} {adv} {cue}.",
    "To me the {thing} seemed {adv} {cue} on {day}.",
    "Everyone thought the {thing} {adv} {cue}.",
    "{adv} {cue} is how {person} described the {thing}.",
)
ASIDES = (
    "We came by {vehicle} with {person}.",
    "{person} sat near the {place} until {time}.",
    "It was {day} and {person} carried a basket.",
    "At {time} {person} took the {vehicle} home.",
    "{person} had told us about it on {day}.",
)
PREMISES = (
    "{person} reached the {place} at {time} and found it {adv} {cue}.",
    "The {place} was {adv} {cue} when {person} arrived.",
    "At {time} the {place} seemed {adv} {cue} to {person}.",
    "{person} wrote that the {place} had been {adv} {cue} since {day}.",
)
HYPOTHESES = (
    "The {place} was {adv} {cue}.",
    "They visited a {place} that was {adv} {cue}.",
    "It was {adv} {cue} in the {place}.",
    "Somebody thought the {place} {adv} {cue}.",
)
