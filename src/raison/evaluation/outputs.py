"""The judgement of rationales for what a model writes: answers and summaries in the place of labels.

Where a label is flipped or loses probability, an output no longer matches the original, or the original loses
log-probability. People's agreement is measured as for labels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from raison.evaluation import summarise
from raison.evaluation.answers import REDRAWS, Rewriting, flipped, matches, normalised
from raison.evaluation.evaluate import (
    CHUNK,
    Judge,
    Judged,
    Options,
    Sources,
    as_config,
    by_source,
    having_scores,
    make_options,
    operator_of,
)
from raison.evaluation.faithfulness import aopc, flip_rate, random_masks
from raison.evaluation.measure import Metrics
from raison.evaluation.notes import notes_of
from raison.evaluation.observe import Chosen, Observation, Plan, Probabilities, Slot, observe
from raison.evaluation.results import Item, SourceItem, Verdict
from raison.evaluation.summarise import Settings
from raison.evaluation.validity import Validity, assess
from raison.masking import Operator
from raison.records import InputError, Record
from raison.runs import provenance
from raison.words import Mask, Tokens, human_masks

SHOWN = 10  # most frequent outputs that a validity names


class Output(Protocol):
    """What an evaluation needs of a model that writes."""

    name: str
    labels: tuple[str, ...]
    tokenizer: Any

    def write(self, records: Sequence[Any]) -> list[str]:
        """Give each record's original output, "" where there is none."""
        ...

    def encode(self, records: Sequence[Any]) -> list[Tokens]:
        """Tokenize prompts with their outputs and align the tokens with the words."""
        ...

    def score_masked(
        self, tokens: Sequence[Tokens], masks: Sequence[Mask], operator: Operator
    ) -> list[NDArray[np.float64]]:
        """Give (masks,) mean log-probabilities of each record's original output with words taken away."""
        ...

    def write_masked(
        self, tokens: Sequence[Tokens], masks: Sequence[Mask], operator: Operator
    ) -> list[list[str | None]]:
        """Give what is written with words taken away, None where nothing can be."""
        ...


# --------------------------------------------------------------------------------------------------- the whole


def evaluate_outputs(
    writer: Output,
    records: Sequence[Record],
    scores: Sequence[Judged] | Mapping[str, Sequence[Judged]],
    *,
    rewrite: bool = True,
    match: Literal["exact", "f1"] = "exact",
    least: float = 0.5,
    redraws: int = REDRAWS,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Verdict:
    """Judge rationales of a model that writes: do they match people's, and does its output rest on them?

    Beside the agreement with people the verdict has, each with its references:

    - `log_probability_drop`: the mean log-probability of the original output's tokens, minus the same without the
      chosen words; `log_probability_sufficiency`: minus the same with only these words; in nats per token.
    - `aopc_log_probability_drop`, `aopc_log_probability_sufficiency`: their means over `ratios`.
    - `answer_flip_rate`: the share of records whose output, written anew without the chosen words, no longer matches
      the original. An empty output does not match; one that can't be written is left out. The reference `unmasked`
      says how often an output differs though no word was taken away: 0, unless outputs were given.

    Validity is that of labels, with outputs (normalised) in their place, and a record's `label`, where it has one, as
    the gold answer. A record whose output is empty is left out of all this, and counted.

    Args:
        writer: the model that the rationales are of.
        records: see `raison.evaluation.evaluate`.
        scores: see `raison.evaluation.evaluate`.
        rewrite: write outputs anew; off, there is no `answer_flip_rate`, and all is many times faster.
        match: outputs match if they are the same words after SQuAD's normalisation (`exact`), or if their token F1 is
            high enough (`f1`, for summaries).
        least: the token F1 that is high enough.
        redraws: random rationales of each size without which outputs are written anew (`draws` are scored).
        progress: called with the number of records done since the last call.
        options: those of `raison.evaluation.evaluate` that do not need labels: all but `subset`, `one_out`, `also`.

    Raises:
        InputError: as `evaluate`.
    """
    chosen, how = make_options(options), _rewriting(rewrite, match, least, redraws)
    sources = by_source(scores)
    kept = having_scores(records, sources)
    judge = OutputJudge(writer, kept, sources, chosen, how)
    items: list[Item] = []
    for start in range(0, len(kept), CHUNK):
        items += judge(kept[start : start + CHUNK])
        if progress:
            progress(len(items) - start)
    config = {"command": "evaluate_outputs", **as_config(chosen), **msgspec.to_builtins(how)}
    return conclude_outputs(items, kept, chosen, how, model=writer.name, frame=provenance(config, kept, {}))


def _rewriting(rewrite: bool, match: str, least: float, redraws: int) -> Rewriting:
    if match not in ("exact", "f1"):
        raise InputError(f"option match: expected exact or f1, got {match!r}")
    if not 0 < least <= 1:
        raise InputError(f"option least: expected a share above 0 and at most 1, got {least}")
    if redraws < 1:
        raise InputError(f"option redraws: expected at least 1, got {redraws}")
    return Rewriting(rewrite, match, least, redraws)


class _Scores:
    """Answers maskings with the mean log-probability of the original output, as `observe` asks for it."""

    def __init__(self, writer: Output) -> None:
        self.name, self.labels, self.tokenizer = writer.name, writer.labels, writer.tokenizer
        self.encode, self.writer = writer.encode, writer

    def predict_masked(
        self,
        tokens: Sequence[Tokens],
        masks: Sequence[Mask],
        operator: Operator,
        known: dict[bytes, Probabilities] | None = None,
    ) -> list[Probabilities]:
        """Give (masks, 1)."""
        return [row[:, None] for row in self.writer.score_masked(tokens, masks, operator)]


class OutputJudge(Judge):
    """Looks at records as `Judge` does, and at what the model writes in the place of its labels."""

    def __init__(
        self, writer: Output, records: Sequence[Record], sources: Sources, options: Options, how: Rewriting
    ) -> None:
        default = Options()
        for name in ("subset", "one_out", "also"):
            if getattr(options, name) != getattr(default, name):
                raise InputError(f"option {name}: it needs a model that gives labels")
        super().__init__(None, records, sources, options)
        operator = operator_of(writer.tokenizer, records, options)
        self.writer, self.how = writer, how
        self.plan = Plan(operator, options.ratios, options.draws, False, options.seed)

    def __call__(self, records: Sequence[Record], known: Any = None) -> list[Item]:
        """Look at some records of those that the judge was made with."""
        outputs, tokens = self.writer.write(records), self.writer.encode(records)
        grids = [row.grid for row in tokens]
        people = [human_masks(record, grid) for record, grid in zip(records, grids, strict=True)]
        chosen = [self._choose(grid, marked) for grid, marked in zip(grids, people, strict=True)]
        seen = observe(_Scores(self.writer), tokens, people, chosen, self.plan)
        written = self._rewritten(tokens, people, chosen) if self.how.rewrite else [{} for _ in records]
        rows = zip(records, grids, tokens, people, chosen, strict=True)
        plain = [self._item(*row, None, []) for row in rows]
        return [
            self._told(*row) if row[1] else msgspec.structs.replace(row[0], label=None)
            for row in zip(plain, outputs, chosen, seen, written, strict=True)
        ]

    def _rewritten(
        self, tokens: Sequence[Tokens], people: Sequence[Mask], chosen: Sequence[Mapping[str, Chosen]]
    ) -> list[dict[Slot, list[str | None]]]:
        """Write outputs anew for every masking that a flip rate or its references need."""
        asked = [self._maskings(*row) for row in zip(tokens, people, chosen, strict=True)]
        masks = [np.concatenate([*slots.values()]) for slots in asked]
        found: list[dict[Slot, list[str | None]]] = []
        for slots, texts in zip(asked, self.writer.write_masked(tokens, masks, self.plan.operator), strict=True):
            ends = np.cumsum([len(rows) for rows in slots.values()]).tolist()
            parts = zip(slots.items(), ends, strict=True)
            found.append({slot: texts[end - len(rows) : end] for (slot, rows), end in parts})
        return found

    def _maskings(self, tokens: Tokens, people: Mask, chosen: Mapping[str, Chosen]) -> dict[Slot, Mask]:
        seen, record_id = tokens.seen, tokens.grid.record_id
        marked = people & seen
        slots: dict[Slot, Mask] = {
            ("whole", ""): np.zeros((1, len(seen)), dtype=np.bool_),
            ("full", ""): seen[None],
            ("people", ""): marked[marked.any(axis=1)],
        }
        for source, choice in chosen.items():
            mask = choice.mask & seen
            slots["removed", source] = mask[None]
            draws, seed = self.how.redraws, self.plan.seed
            slots["random_removed", source] = random_masks(seen, int(mask.sum()), draws, seed=seed, record_id=record_id)
        return slots

    def _told(
        self,
        item: Item,
        output: str,
        chosen: Mapping[str, Chosen],
        seen: Observation,
        written: Mapping[Slot, Sequence[str | None]],
    ) -> Item:
        """Add what the model wrote, and the metrics of it, to an item."""
        sources = {
            name: self._source(found, name, chosen[name], output, seen, written) if name in chosen else found
            for name, found in item.sources.items()
        }
        full = written["full", ""][0] if written else None
        return msgspec.structs.replace(item, label=None, predicted=output, label_full=full, sources=sources)

    def _source(  # noqa: PLR0917
        self,
        found: SourceItem,
        name: str,
        choice: Chosen,
        output: str,
        seen: Observation,
        written: Mapping[Slot, Sequence[str | None]],
    ) -> SourceItem:
        metrics = measure_drops(seen, name, choice, self.options.ratios)
        if written:
            slots = {
                "": ("removed", name),
                ".random": ("random_removed", name),
                ".human": ("people", ""),
                ".full": ("full", ""),
                ".unmasked": ("whole", ""),
            }
            metrics |= {
                f"answer_flip_rate{end}": flipped(output, written[slot], self.how) for end, slot in slots.items()
            }
        known = {key: None if np.isnan(value) else value for key, value in metrics.items()}
        without = written["removed", name][0] if written else None
        return msgspec.structs.replace(found, metrics={**found.metrics, **known}, label_without=without)


def measure_drops(seen: Observation, source: str, choice: Chosen, ratios: Sequence[float]) -> Metrics:
    """Give what taking words away, or keeping only them, costs the original output: nats per token.

    Args:
        seen: mean log-probabilities of the original output (maskings, 1).
        source: whose words.
        choice: what the source chose.
        ratios: the shares of words of `removed_steps` and `kept_steps`.
    """

    def drops(slot: Slot) -> NDArray[np.float64]:
        return seen["whole", ""][0] - seen[slot][:, 0]

    found: Metrics = {}
    for away, kind in ((True, "removed"), (False, "kept")):
        metric = "log_probability_drop" if away else "log_probability_sufficiency"
        slots = {"": (kind, source), ".random": (f"random_{kind}", source), ".full": ("full", "")}
        if away:
            slots |= {".human": ("people", ""), ".least": ("least", source)}
        for end, slot in slots.items():
            if slot in seen:
                found[metric + end] = float(drops(slot).mean()) if len(seen[slot]) else np.nan
        if choice.scores is not None:
            steps = drops((f"{kind}_steps", source))
            found |= {f"{metric}@{ratio:g}": float(step) for ratio, step in zip(ratios, steps, strict=True)}
            found[f"aopc_{metric}"] = float(aopc(steps[None])[0])
    return found


# ------------------------------------------------------------------------------------------------- conclusions


def conclude_outputs(
    items: Sequence[Item],
    records: Sequence[Record],
    options: Options,
    how: Rewriting,
    *,
    model: str,
    frame: dict[str, Any],
) -> Verdict:
    """Make the verdict of what was seen in every record.

    Args:
        items: what `OutputJudge` gave.
        records: the records, in the same order; asked for gold answers.
        options: how they were judged.
        how: how outputs were written anew and compared.
        model: its name.
        frame: where it all comes from, see `raison.runs.provenance`.
    """
    settings = Settings(options.level, options.resamples, options.seed)
    validity = _validity(items, records, how)
    return Verdict(
        model=model,
        cells=summarise.cells(items, validity.withheld, settings),
        comparisons=summarise.comparisons(items, validity.withheld, settings),
        curves=[],
        validity=validity,
        notes=_notes(items, options, how),
        items=list(items),
        provenance=frame,
    )


def _validity(items: Sequence[Item], records: Sequence[Record], how: Rewriting) -> Validity:
    """Ask whether what the model writes leaves faithfulness anything to measure; outputs stand for labels."""
    answers = [None if item.predicted is None else " ".join(normalised(item.predicted)) for item in items]
    gold = [None if record.label is None else " ".join(normalised(record.label)) for record in records]
    full = [
        np.nan
        if item.predicted is None or item.label_full is None
        else float(not matches(item.predicted, item.label_full, how))
        for item in items
    ]
    columns = summarise.columns_of(items).values()
    known = [flip_rate(table["answer_flip_rate.random"]) for table in columns if "answer_flip_rate.random" in table]
    random = [rate for rate in known if rate is not None]
    found = assess(
        answers,
        gold,
        (),
        flip_rate_full=flip_rate(full),
        flip_rate_random=float(np.mean(random)) if random else None,
    )
    often = sorted(found.predicted_shares, key=lambda text: -found.predicted_shares[text])[:SHOWN]
    return msgspec.structs.replace(found, predicted_shares={text: found.predicted_shares[text] for text in often})


def _notes(items: Sequence[Item], options: Options, how: Rewriting) -> list[str]:
    """Say what a reader must know of."""
    silent = sum(item.predicted is None for item in items)
    nothing = "the model wrote nothing, so there is nothing to explain"
    notes = [f"{silent} of {len(items)} records: {nothing}"] if silent else []
    notes += notes_of(items, options)
    if how.rewrite:
        same = "the same words after normalisation" if how.match == "exact" else f"a token F1 of {how.least:g} or more"
        notes.append(
            f"outputs match by {same}; beside each answer flip rate stand {how.redraws} random rationales, beside each "
            f"drop of log-probability {options.draws}"
        )
    return notes
