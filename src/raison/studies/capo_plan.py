"""What the study of CAPO compares: the systems of each part, and what each of them is made from."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from raison.annotators.capo import CapoConfig
from raison.annotators.examples import SELECTS
from raison.annotators.pairs import SCOPES, PairOptions, Scope, make_options
from raison.annotators.sft import SftConfig
from raison.annotators.views import VIEWS
from raison.records import InputError

Part = Literal["main", "ablations", "growing"]
Form = Literal["tag", "person"]
Rejected = Literal["people", "own-other-item"]
CHOICES: Mapping[str, tuple[tuple[str, ...], str]] = {  # setting -> what it may be, the option that it is given by
    "parts": (get_args(Part), "parts"),
    "forms": (get_args(Form), "form"),
    "scope": (SCOPES, "scope"),
    "rejected": (get_args(Rejected), "rejected"),
    "select": (SELECTS, "select"),
    "views": (tuple(VIEWS), "views"),
}

ZERO_SHOT, PROFILE, IN_CONTEXT = "zero-shot", "profile", "in-context"
POOLED, SFT_TAG, SFT_PERSON = "SFT, pooled", "SFT, tag", "SFT, person"
CAPO_TAG, CAPO_PERSON = "CAPO, tag", "CAPO, person"
OTHERS = "SFT, the others"  # the tagged model of everybody but one person
SEEDLESS = (ZERO_SHOT, PROFILE)  # answer alike with every seed, where nothing is drawn
PROMPTED = (ZERO_SHOT, PROFILE, IN_CONTEXT)  # ways, too


class Newcomer(msgspec.Struct, frozen=True):
    """How somebody new is learned."""

    sizes: tuple[int, ...] = (10, 25, 50, 100)  # items of theirs
    epochs: int = 10
    batch: int = 4
    tag_lr: float = 1e-2  # of the tag's embeddings
    adapter_lr: float = 1e-3  # of an adapter of their own
    rank: int = 16


class Crowd(msgspec.Struct, frozen=True):
    """How many people one model is to learn."""

    sizes: tuple[int, ...] = (4, 8, 16, 32, 50)
    items: int = 100  # of the testbed's, where no file is given; in proportion 3, 1, 1


class Settings(msgspec.Struct, frozen=True):
    """How the study is done."""

    seeds: int = 3
    parts: tuple[Part, ...] = ("main",)
    forms: tuple[Form, ...] = ("tag", "person")  # ablations are of the first
    wording: str | None = None
    shots: int = 16  # in context
    select: str = "stratified"
    reply_tokens: int = 128
    temperature: float = 0.0  # 0 = the most probable tokens
    dtype: str = "float32"  # of the models that answer
    train_items: int | None = None  # of each data set; None = all of the part
    test_items: int | None = None
    views: tuple[str, ...] = ()  # of stability; none = all that the data have
    permutations: int = 200  # of its tests
    scope: Scope = "all"  # of CAPO's pairs
    rejected: tuple[Rejected, ...] = ("people",)  # what is rejected in them
    sft: SftConfig = SftConfig()
    capo: CapoConfig = CapoConfig()
    newcomer: Newcomer = Newcomer()
    crowd: Crowd = Crowd()


class System(NamedTuple):
    """One system: a row of the tables."""

    name: str
    part: str
    how: str  # zero-shot, profile, in-context, sft-*, capo-*, others, new-tag, new-adapter, crowd
    parent: str | None = None  # the system whose model it starts from
    capo: CapoConfig | None = None
    pairs: PairOptions | None = None
    size: int = 0  # items of a newcomer, or people of a crowd


def settings_of(**given: Any) -> Settings:
    """Check what is asked of a study.

    Raises:
        InputError: a name or a number is not one of those that can be.
    """
    for name, (known, option) in CHOICES.items():
        value = given.get(name) or ()
        for one in [value] if isinstance(value, str) else value:
            if one not in known:
                raise InputError(f"--{option} {one!r}: expected {', '.join(known)}")
    try:
        found = msgspec.convert({name: value for name, value in given.items() if value is not None}, Settings,
                                strict=False)  # fmt: skip
    except msgspec.ValidationError as error:
        raise InputError(f"study: {error}") from None
    if not found.parts or not found.forms or len(set(found.forms)) < len(found.forms):
        raise InputError("study: expected at least one part and form, each form once")
    for name, sizes in (("sizes", found.newcomer.sizes), ("crowd-sizes", found.crowd.sizes)):
        if not sizes or min(sizes) < 1 or len(set(sizes)) < len(sizes):
            raise InputError(f"--{name}: expected numbers of at least 1, each once, by commas")
    return found


# --------------------------------------------------------------------------------------------------------- systems


def main_systems(settings: Settings) -> Iterator[System]:
    """Give the baselines, and CAPO in its forms."""
    yield System(ZERO_SHOT, "main", "zero-shot")
    yield System(PROFILE, "main", "profile")
    yield System(IN_CONTEXT, "main", "in-context")
    yield System(POOLED, "main", "sft-pooled")
    yield System(SFT_TAG, "main", "sft-tag")
    yield System(SFT_PERSON, "main", "sft-person")
    for form in settings.forms:
        yield capo_system(settings, form)


def capo_system(settings: Settings, form: Form) -> System:
    """Give CAPO as it is set."""
    name, parent = (CAPO_TAG, SFT_TAG) if form == "tag" else (CAPO_PERSON, SFT_PERSON)
    return System(name, "main", f"capo-{form}", parent, settings.capo, pairs_of(settings))


def pairs_of(settings: Settings, **changes: Any) -> PairOptions:
    """Give which pairs are made, with what is changed of them."""
    return make_options({"scope": settings.scope, "rejected": settings.rejected, **changes})


def ablations(settings: Settings, weights: tuple[str, ...]) -> Iterator[System]:
    """Give what CAPO becomes when one thing of it is changed, all else as it is set.

    Args:
        settings: of the study.
        weights: factors that the data have, see `raison.annotators.pair_weights`.
    """
    whole = capo_system(settings, settings.forms[0])
    assert whole.capo is not None
    pairs: dict[str, dict[str, Any]] = {f"scope {scope}": {"scope": scope} for scope in ("all", "same-label",
                                        "different-label") if scope != settings.scope}  # fmt: skip
    own = "own-other-item" not in settings.rejected
    name = "also rejects own texts on other items" if own else "rejects others’ texts alone"
    pairs[name] = {"rejected": ("people", *(("own-other-item",) if own else ()))}
    pairs |= {f"weights: {name}": {"weights": (name,)} for name in weights}
    for name, given in pairs.items():
        yield whole._replace(name=name, part="ablations", pairs=pairs_of(settings, **given))
    for name, changes in _changes(whole.capo).items():
        yield whole._replace(name=name, part="ablations", capo=msgspec.structs.replace(whole.capo, **changes))


def _changes(config: CapoConfig) -> Mapping[str, dict[str, float]]:
    betas = (config.beta / 3, config.beta * 3)
    anchors = [anchor for anchor in (0.0, 0.1, 1.0) if anchor != config.anchor]
    return {
        "label tokens alone": {"explanation_weight": 0.0},
        "explanation tokens alone": {"label_weight": 0.0},
        **{f"β {beta:.2g}": {"beta": beta} for beta in betas},
        **{f"anchor {anchor:g}": {"anchor": anchor} for anchor in anchors},
    }


def newcomers(settings: Settings) -> Iterator[System]:
    """Give how each person in turn is learned by a model of the others, from more and more items."""
    yield System(OTHERS, "growing", "others")
    yield System("nothing of them", "growing", "new-tag", OTHERS, size=0)
    for way, told in (("new-tag", "the tag"), ("new-adapter", "an adapter")):
        for size in settings.newcomer.sizes:
            yield System(f"{told}, {size} items", "growing", way, OTHERS, size=size)


def crowds(settings: Settings) -> Iterator[System]:
    """Give one model for more and more people."""
    for size in settings.crowd.sizes:
        yield System(f"{size} people", "crowd", "crowd", size=size)
