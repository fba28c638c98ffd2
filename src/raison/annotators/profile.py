"""A person's style card: their habits in labelling and explaining, counted by rules and put into plain sentences.

The paper prompts with a text about the annotator, which is not known; this one is ours. It is made from the answers it
is given and nothing else, so from training items alone if these are answers to training items.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import fmean, quantiles

import msgspec

from raison.annotators.responses import Response

OPENING = 3  # words
FEWEST = 3  # times that a phrase must have been used to be named
RARE = 0.02  # share of the explanations below which it is not
MOST = 5  # phrases that are named
HEDGES = frozenset({
    "may", "might", "maybe", "could", "perhaps", "possibly", "possible", "probably", "likely", "seem", "seems",
    "seemingly", "appear", "appears", "apparently", "presumably", "somewhat", "unclear", "suggests", "assume",
})  # fmt: skip
NEGATIONS = frozenset({"not", "no", "never", "nothing", "none", "nobody", "neither", "nor", "without", "cannot"})

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_HABITS = {
    "hedges": "use words of doubt (may, probably, seems)",
    "negations": "use a negation",
    "quotes": "put words in quotation marks",
    "full_stops": "end with a full stop",
    "small_starts": "begin with a small letter",
}


class Profile(msgspec.Struct, frozen=True):
    """A person's habits. Shares are of the explanations that are not empty, if not said otherwise."""

    annotator: str
    answers: int
    labels: dict[str, float]  # label -> share of the answers that have one, most frequent first
    explained: int  # explanations that are not empty; with none, what follows is empty or 0
    words: tuple[float, float, float]  # quartiles of their length
    whole: dict[str, float]  # explanation given again and again -> share
    openings: dict[str, float]  # first words used again and again -> share; not those of `whole`
    hedges: float  # share with such a word
    negations: float
    quotes: float
    full_stops: float
    small_starts: float
    categories: dict[str, float]  # kind of reasoning, where the data has it -> share of the answers that have one


def profile_of(annotator: str, responses: Iterable[Response]) -> Profile:
    """Count a person's habits.

    Args:
        annotator: whose; others' responses are passed over.
        responses: to training items.
    """
    own = [one for one in responses if one.annotator == annotator]
    texts = [text for one in own if (text := " ".join((one.explanation or "").split()))]
    words = [_WORD.findall(text.casefold()) for text in texts]
    whole = _often(texts, texts)
    rest = [text for text in texts if text not in whole]
    return Profile(
        annotator,
        len(own),
        _shares([one.label for one in own if one.label is not None]),
        len(texts),
        _quartiles([len(text.split()) for text in texts]),
        whole,
        _often([" ".join(text.split()[:OPENING]) for text in rest if len(text.split()) > OPENING], texts),
        _share(bool(HEDGES.intersection(some)) for some in words),
        _share(any(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in some) for some in words),
        _share(bool(re.search(r"[\"“”«»]|(?<!\w)['‘].+['’](?!\w)", text)) for text in texts),
        _share(text.endswith(".") for text in texts),
        _share(text[0].islower() for text in texts),
        _shares([kind for one in own for kind in _kinds(one)]),
    )


def card(profile: Profile) -> str:
    """Put a profile into sentences that speak to the person, a line for each habit; empty for one without answers."""
    if not profile.answers:
        return ""
    lines = [f"Your labels: {_counted(profile.labels)}."] if profile.labels else []
    if profile.explained:
        low, middle, high = (f"{value:.0f}" for value in profile.words)
        lines.append(f"Your explanations have about {middle} words; half of them have {low} to {high}.")
    if profile.whole:
        lines.append(f"You have whole explanations that you use again: {_quoted(profile.whole)}.")
    if profile.openings:
        lines.append(f"You often begin with: {_quoted(profile.openings)}.")
    if profile.explained:
        lines += [f"You {_how_often(getattr(profile, name))} {said}." for name, said in _HABITS.items()]
    if profile.categories:
        lines.append(f"Your kinds of reasons: {_counted(profile.categories)}.")
    return "\n".join(lines)


def _kinds(response: Response) -> list[str]:
    found = response.extra.get("category")
    return [found] if isinstance(found, str) else list(found or [])


def _shares(values: Sequence[str]) -> dict[str, float]:
    """Give value -> share, most frequent first, equals by name."""
    counts = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    return {value: count / len(values) for value, count in counts}


def _often(phrases: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Give the phrases that are used again and again, with their share of all texts."""
    counts = sorted(Counter(phrases).items(), key=lambda pair: (-pair[1], pair[0]))
    kept = [(phrase, n) for phrase, n in counts if n >= FEWEST and n >= RARE * len(texts)]
    return {phrase: n / len(texts) for phrase, n in kept[:MOST]}


def _share(flags: Iterable[bool]) -> float:
    found = list(flags)
    return fmean(found) if found else 0.0


def _quartiles(values: Sequence[int]) -> tuple[float, float, float]:
    if len(values) < 2:
        only = float(sum(values))
        return only, only, only
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _counted(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} ({share:.0%})" for name, share in shares.items())


def _quoted(shares: dict[str, float]) -> str:
    return ", ".join(f'"{name}" ({share:.0%})' for name, share in shares.items())


def _how_often(share: float) -> str:
    steps = ((0.9, "nearly always"), (0.5, "often"), (0.1, "sometimes"), (0.0, "hardly ever"))
    word = next(word for least, word in steps if share >= least)
    return f"{word} ({share:.0%})"
