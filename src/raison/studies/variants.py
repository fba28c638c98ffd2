"""What the study of UIMER compares: the ways to train, the settings that are tried of each, and what is varied."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from raison.records import InputError, Record
from raison.training.align import loss_of, takes_margin
from raison.training.aligned import Alignment

TaskName = Literal["intent", "slots", "nli"]
Part = Literal["main", "warm-up", "rounds", "strength", "source", "noise"]
EXPLAINED = "explanations"  # the words of the text that people's explanations name
NOISE = ("drop", "shift", "swap", "replace")
LONGEST, READ = 60, 3000  # epochs at most; records read in all, see `grid`
_EXPECTED = {
    "task": " or ".join([", ".join(get_args(TaskName)[:-1]), get_args(TaskName)[-1]]),
    "shots": "numbers of at least 0, by commas",
    "parts": f"some of {', '.join(get_args(Part))}, by commas",
}


class Variant(msgspec.Struct, frozen=True):
    """One way to train."""

    name: str
    alignment: Alignment | None = None  # None = the task alone
    lr: float = 2e-4
    epochs: int = 60
    noise: str | None = None  # kind, see `raison.sources.noise.noisy`
    rate: float = 0.0  # of the noise
    explained: bool = False  # the rationales are the words that people's explanations name, not their highlights

    @property
    def tuned(self) -> str:
        """What tuning tries several values of, in words."""
        given = self.alignment
        if given is None:
            return f"lr {np.format_float_scientific(self.lr, trim='-', exp_digits=1)}, {self.epochs} epochs"
        said = {"margin": given.margin, "loss": given.loss}
        return ", ".join([f"alpha {given.alpha:g}", *(f"{key} {one}" for key, one in said.items() if one is not None)])

    @property
    def given(self) -> dict[str, Any]:
        """What a training is made from: that of two names is made once.

        Only what differs from the defaults is given: a cell keeps its key when an option that it does not use is added.
        """
        unused = {"name"} if self.rate else {"name", "noise"}
        given = {name: value for name, value in _given(self).items() if name not in unused}
        return {**given, "alignment": _given(self.alignment) if self.alignment is not None else None}


def _given(settings: msgspec.Struct) -> dict[str, Any]:
    plain = {field.name: field.default for field in msgspec.structs.fields(settings)}
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value != plain[name]}


class Settings(msgspec.Struct, frozen=True):
    """How the study is done."""

    task: TaskName = "intent"
    shots: tuple[int, ...] = (1,)  # per label or kind of slot; of nli: records in all; 0 = all there are
    seeds: int = 10
    tuning_seeds: int = 3
    batch: int = 24
    people: str = "soft"  # whose rationales
    parts: tuple[Part, ...] = ("main",)
    only: tuple[str, ...] = ()  # families; none = all of the task
    watched: int = 100  # test records on which the model's reasons are looked at
    masked_lm: str | None = None  # what `IM masked LM` draws by; None = that family is left out
    bf16: bool = False  # train in bfloat16, where the device can


def settings_of(**given: Any) -> Settings:
    """Check what is asked of a study.

    Raises:
        InputError: one line that names the option, and says what can be.
    """
    try:
        settings = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = (re.search(r"\$\.(\w+)", str(error)) or ("", ""))[1]
        expected = str(error).partition(" - at ")[0].removeprefix("Expected ")
        raise InputError(_refused(name, given.get(name), _EXPECTED.get(name, expected))) from None
    if min(settings.shots, default=-1) < 0:
        raise InputError(_refused("shots", settings.shots, _EXPECTED["shots"]))
    known = families(settings)
    if any(name not in known for name in settings.only):
        raise InputError(_refused("only", settings.only, f"some of {', '.join(known)}, by commas"))
    return settings


def _refused(name: str, value: Any, expected: str) -> str:
    said = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)
    return f"--{name.replace('_', '-')} {said}: expected {expected}"


def of_shots(shots: int) -> str:
    """Say how many shots, in words."""
    return f"{shots} shot{'' if shots == 1 else 's'}" if shots else "all records"


def families(settings: Settings, epochs: int = LONGEST) -> dict[str, list[Alignment]]:
    """Give the ways to train with rationales, each with the six settings that are tried.

    A warm-up takes 10 epochs, or a third of `epochs` where that is less.

    The sign hinge of Ghaeini et al. 2019 is put on input x gradient and not on the summed gradient, as published, since
    that is 0 behind a layer norm, which is where the embeddings of most encoders go.
    """
    strengths = [{"alpha": alpha, "margin": margin} for margin in (0.25, 1.0) for alpha in (0.3, 1.0, 3.0)]
    alphas = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    gates = [{"alpha": alpha, "loss": loss} for loss in ("ratio", "margin-strongest") for alpha in (0.3, 1.0, 3.0)]
    warm = {"warm_up": min(10, epochs // 3)}

    def tried(choices: Sequence[Mapping[str, Any]], **same: Any) -> list[Alignment]:
        return [Alignment(**{**same, **choice}, people=settings.people) for choice in choices]

    found = {
        "GB sign": tried([{"alpha": 30 * alpha} for alpha in alphas], by="input-x-gradient", loss="sign"),
        "GB order": tried([{"alpha": alpha} for alpha in alphas], by="gradient-l1"),
        "IM mask": tried(strengths, replacement="mask"),
        "IM uniform": tried(strengths, replacement="uniform"),
        "IM prior": tried(strengths, replacement="prior"),
        "IM uniform (warm)": tried(strengths, replacement="uniform", **warm),
        "IM mask (warm)": tried(strengths, replacement="mask", **warm),
        "IM prior (warm)": tried(strengths, replacement="prior", **warm),
        "DM one pass": tried(gates, by="diffmask", **warm),
        "DM rounds": tried(gates, by="diffmask", rounds=5, extractor_epochs=10, **warm),
    }
    if settings.masked_lm is not None:
        drawn = f"masked-lm:{settings.masked_lm}"
        found["IM masked LM"] = tried(strengths, replacement=drawn)
        found["IM masked LM (warm)"] = tried(strengths, replacement=drawn, **warm)
    if settings.task != "slots":
        found["attention"] = tried([{"alpha": alpha} for alpha in alphas], by="attention")
    return found


def grid(task: TaskName, size: int) -> list[Variant]:
    """Give the settings of the task alone that are tried on so many records.

    Few records are read 60 times or 30; of more than 50, no more than 3000 are read in all, but each 4 times at least.
    """
    rates = (1e-4, 2e-4, 5e-4) if task != "slots" else (2e-4, 5e-4, 1e-3)
    longest = min(LONGEST, max(4, READ // size))
    return [Variant("task alone", None, lr, epochs) for lr in rates for epochs in (longest // 2, longest)]


def around(part: Part, best: Variant, sources: Sequence[str]) -> Iterator[Variant]:
    """Give what a part of the study varies, all else as in the best setting of a family.

    A warm-up that would take the whole training, and more rounds than the training has epochs, are left out; so is the
    margin where the loss has none.

    Args:
        part: of the study.
        best: the family's best setting.
        sources: of the rationales, see `sources_of`.
    """
    given = best.alignment
    assert given is not None

    def changed(name: str, **values: Any) -> Variant:
        alignment = msgspec.structs.replace(given, **values)
        return msgspec.structs.replace(best, name=f"{best.name}, {name}", alignment=alignment)

    if part == "warm-up":
        lengths = (epochs for epochs in (0, 5, 10, 20, 40) if epochs < best.epochs)
        yield from (changed(f"warm-up {epochs}", warm_up=epochs) for epochs in lengths)
    elif part == "rounds":
        yield from (
            changed(f"{rounds} rounds of {epochs} extractor epochs", rounds=rounds, extractor_epochs=epochs)
            for rounds in (1, 3, 5, 10)
            if rounds == 1 or rounds <= given.aligned_epochs(best.epochs)
            for epochs in (1, 10, 50)
        )
    elif part == "strength":
        alphas = (0.1, 0.3, 1.0, 3.0, 10.0)
        if takes_margin(loss_of(given)):
            yield from (
                changed(f"alpha {alpha:g}, margin {margin:g}", alpha=alpha, margin=margin)
                for alpha in alphas
                for margin in (0.25, 1.0, 4.0)
            )
        else:
            yield from (changed(f"alpha {alpha:g}", alpha=alpha) for alpha in alphas)
    elif part == "source":
        for source in sources:
            explained = source == EXPLAINED
            found = changed(f"rationales: {source}", people="soft" if explained else source)
            yield msgspec.structs.replace(found, explained=explained)
    else:
        rates = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        yield from (
            msgspec.structs.replace(best, name=f"{best.name}, {kind} {rate:g}", noise=kind, rate=rate)
            for kind in NOISE
            for rate in rates
        )


def sources_of(records: Sequence[Record]) -> list[str]:
    """Name the sources of rationales that records have: annotators (few of them), their votes, and explanations."""
    notes = [note for record in records for note in record.annotations]
    names = sorted({note.annotator for note in notes if note.rationale is not None and note.annotator is not None})
    found = [*(names if len(names) <= 6 else ()), *(("soft", "majority", "union") if len(names) > 1 else ())]
    return [*found, EXPLAINED] if any(note.explanation for note in notes) else found
