"""What the cells of the study say: systems beside the controls and the fine-tuned model, with costs, and the pages."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from raison.annotators.imitation import Imitation, score
from raison.annotators.measuring import Options
from raison.records import write_json
from raison.report.annotator_study import Block, Cost, Table, write_annotator_study
from raison.report.imitation import write_imitation
from raison.report.stability import write_stability
from raison.studies import capo_plan as plan
from raison.studies.capo import Field, Study
from raison.studies.capo_plan import System

TITLES = {
    "main": ("Which way learns them", "attribution only ever beside label, grounding and the four controls"),
    "ablations": ("What of CAPO does it", "one thing changed at a time, all else as set"),
    "growing": ("Somebody new", "each person in turn, taken into a model of the others from so many items"),
    "crowd": ("More people in one model", "the same first people, learned together with more and more others"),
}


def results(study: Study, out: str | Path, options: Options | None = None) -> list[Block]:
    """Score everything that the study has made, and write the pages of each data set.

    Args:
        study: done.
        out: its folder; each data set has a folder of pages in it.
        options: of the scores.
    """
    options, folder = options or Options(), Path(out)
    parts = dict.fromkeys(("main", *study.settings.parts))
    found = [_block(study, field, [*parts], folder, options) for field in study.fields]
    if study.crowd is not None and "growing" in parts:
        found.append(_block(study, study.crowd, ["crowd"], folder, options))
    return found


def write_results(study: Study, out: str | Path, options: Options | None = None) -> list[Block]:
    """Do `results`, and write the page of the study over them."""
    blocks = results(study, out, options)
    write_annotator_study(Path(out) / "study.html", blocks, settings_told(study))
    return blocks


def settings_told(study: Study) -> dict[str, str]:
    """Say how the study was done."""
    given = study.settings
    sizes = [f"{field.name}: {len(field.split.train)} items to learn from, {len(field.split.dev)} for the attributor, "
             f"{len(field.split.test)} to be judged on" for field in study.fields]  # fmt: skip
    adapters = f"LoRA of rank {given.sft.rank}" if given.sft.rank else "all weights"
    return {
        "Model": study.model,
        "Items": "; ".join(sizes),
        "Seeds": f"{given.seeds}" + ("" if given.temperature else "; zero-shot and profile answer alike with each"),
        "Answers": f"drawn at temperature {given.temperature:g}" if given.temperature else "the most probable tokens",
        "SFT": f"{adapters}, {given.sft.epochs} epochs, highest learning rate {given.sft.lr:g}",
        "CAPO": (
            f"{given.capo.epochs} epochs, highest learning rate {given.capo.lr:g}, β {given.capo.beta:g}, "
            f"anchor {given.capo.anchor:g}, scope {given.scope}, rejected: {', '.join(given.rejected)}"
        ),
        "In context": f"{given.shots} answers of the person, {given.select}",
    }


def _block(study: Study, field: Field, parts: Sequence[str], folder: Path, options: Options) -> Block:
    place = folder / field.name
    stable = None if "crowd" in parts else study.stability_of(field)
    if stable is not None:
        write_stability(place / "stability.html", stable)
    tables = [_table(study, field, part, place / part, options) for part in parts]
    return Block(field.name, stable, tables)


def _table(study: Study, field: Field, part: str, place: Path, options: Options) -> Table:
    systems = [one for one in _shown(study, field, part) if one.how != "others"]
    first = systems[0].name if part == "crowd" else plan.SFT_TAG
    pairs = [(one.name, first) for one in systems if one.name != first]
    pairs += [(plan.CAPO_PERSON, plan.SFT_PERSON)] if plan.CAPO_PERSON in {one.name for one in systems} else []
    runs = {one.name: study.runs(field, one) for one in systems}
    found = score(field.split, field.said, runs, options, compared=pairs)
    title, about = TITLES[part]
    write_imitation(place, found, f"{field.name}: {title.lower()}")
    write_json(place / "imitation.json", _plain(found))
    costs = [cost for one in systems if (cost := _cost(study, field, one)) is not None]
    return Table(part, title, about, found, first, costs, {one.name: one.size for one in systems if one.size})


def _shown(study: Study, field: Field, part: str) -> list[System]:
    """Give the rows of a table: those of a later part stand beside the models that they begin with, or are made of."""
    own = study.systems(field, part)
    if part in ("main", "crowd"):
        return own
    beside = {one.name: one for one in study.systems(field, "main")}
    whole = plan.capo_system(study.settings, study.settings.forms[0])
    names = [plan.SFT_TAG, *([whole.parent, whole.name] if part == "ablations" else [])]
    return [*(beside[name] for name in dict.fromkeys(names) if name), *own]


def _cost(study: Study, field: Field, system: System) -> Cost | None:
    cells = study.cells(field, system)
    if not cells:
        return None
    people = max(1, len(field.people) if system.part != "crowd" else system.size)
    return Cost(
        system.name, fmean(cell.seconds for cell in cells), fmean(cell.answering for cell in cells),
        cells[0].parameters, cells[0].bytes, people, sum(cell.unread for cell in cells),
        sum(cell.answers for cell in cells),
    )  # fmt: skip


def _plain(found: Imitation) -> dict[str, object]:
    from msgspec import to_builtins

    return to_builtins(found)
