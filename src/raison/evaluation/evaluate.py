"""The judgement of rationales: agreement with people, and whether they drive the model's own decision.

`evaluate` does it all in memory. Its two halves are `judge`, which looks at records (and runs the model), and
`conclude`, which makes a verdict of what was seen (and needs no model).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from raison.evaluation import summarise
from raison.evaluation.alignment import Rule, human_size
from raison.evaluation.extras import EXTRAS, expect_known, expect_possible
from raison.evaluation.faithfulness import ERASER_RATIOS, Subset, flip_rate, flips, subset_rows
from raison.evaluation.looks import Found, Look, Tuned
from raison.evaluation.measure import Agreement, Metrics, measure_behaviour, measure_reply
from raison.evaluation.notes import notes_of, notes_of_model, notes_of_scores
from raison.evaluation.observe import (
    Chosen,
    Observation,
    Plan,
    Predictor,
    Probabilities,
    answers,
    count_maskings,
    gives_probabilities,
    observe,
)
from raison.evaluation.results import Item, SourceItem, Verdict
from raison.evaluation.summarise import Settings
from raison.evaluation.validity import Validity, assess
from raison.masking import Operator, Unit, corpus_of, default_name, make_operator
from raison.rationales import Budget, Rank, Rationale, WordScores, parse_budget, top_k
from raison.records import InputError, Record
from raison.runs import provenance
from raison.words import SEGMENTERS, Mask, Tokens, WordGrid, human_masks, word_grid

Judged = WordScores | Rationale
Sources = Mapping[str, Mapping[str, Judged]]  # source -> record id -> what it said
CHUNK = 64  # records looked at together


class Options(msgspec.Struct, frozen=True):
    """How rationales are judged."""

    budget: str = "human"  # words a source with scores may choose, see `raison.rationales.Budget`
    aggregate: Rule = "each"  # how several people are combined
    mask: str | None = None  # mask operator; None = the tokenizer's mask token, or deletion where it has none
    unit: Unit = "word"  # one replacement for each masked word, run of words, or token
    subset: Subset = "all"  # records whose decision is looked at: by whether the model is right
    rank: Rank = "value"  # words are chosen by signed score or by magnitude
    ratios: tuple[float, ...] = ERASER_RATIOS  # shares of words for AOPC
    draws: int = 20  # random rationales of the same size beside every rationale
    words: Literal["whitespace", "characters"] = "whitespace"  # what a word is, where no model says it
    one_out: bool = False  # also correlate scores with leaving each word out (a run of the model for each word)
    also: tuple[str, ...] = ()  # further metrics, by their names in `raison.evaluation.extras.EXTRAS`
    beam: int = 5  # of `naopc`: orders of words that its search keeps; more are slower, and nearer to the true bounds
    level: float = 0.95  # of intervals
    resamples: int = 10_000
    seed: int = 0


def evaluate(
    model: Predictor | None,
    records: Sequence[Record],
    scores: Sequence[Judged] | Mapping[str, Sequence[Judged]],
    *,
    tuned: Predictor | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Verdict:
    """Judge rationales: do they match people's, and do they drive the model's own decision?

    Args:
        model: the model that the rationales are of; None judges the agreement with people alone.
        records: the records, with people's rationales where there are any.
        scores: scores or rationales of one or several sources; as a list they are told apart by their `method` or
            `source`, as a mapping by its keys.
        tuned: of `also` f-fidelity: the model, tuned further on records whose words were masked at random.
        progress: called with the number of records done since the last call.
        options: the fields of `Options`, by name: `budget`, `aggregate`, `mask`, `unit`, `subset`, ...

    Returns:
        The verdict. Metrics of faithfulness that can't be ranked say why, and are not compared.

    Raises:
        InputError: an option is unknown or impossible, scores don't fit the records, or no record has scores.
    """
    chosen = make_options(options)
    sources = by_source(scores)
    kept = having_scores(records, sources)
    judge = Judge(model, kept, sources, chosen, tuned)
    items: list[Item] = []
    known: dict[bytes, Probabilities] = {}
    for start in range(0, len(kept), CHUNK):
        items += judge(kept[start : start + CHUNK], known)
        if progress:
            progress(len(items) - start)
    return conclude(
        items,
        chosen,
        model=model,
        frame=provenance({"command": "evaluate", **as_config(chosen)}, kept, {}),
        said=sources,
    )


def make_options(given: Mapping[str, Any]) -> Options:
    """Check options by name.

    Raises:
        InputError: naming the option and what was expected.
    """
    strange = sorted(given.keys() - set(Options.__struct_fields__))
    if strange:
        raise InputError(f"unknown option {strange[0]!r}; expected one of {', '.join(Options.__struct_fields__)}")
    try:
        options = msgspec.convert(dict(given), Options)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InputError(f"option {path.rstrip('`')}: {message[0].lower()}{message[1:]}") from None
    parse_budget(options.budget)
    if options.draws < 1:
        raise InputError(f"option draws: expected at least 1, got {options.draws}")
    if options.beam < 1:
        raise InputError(f"option beam: expected at least 1, got {options.beam}")
    expect_known(options.also)
    if options.seed < 0:
        raise InputError(f"option seed: expected 0 or more, got {options.seed}")
    if not options.ratios or not all(0 < ratio <= 1 for ratio in options.ratios):
        raise InputError(f"option ratios: expected shares above 0 and at most 1, got {list(options.ratios)}")
    return options


def as_config(options: Options) -> dict[str, Any]:
    """Give options as they stand in a result file."""
    return msgspec.json.decode(msgspec.json.encode(options))


def by_source(scores: Sequence[Judged] | Mapping[str, Sequence[Judged]]) -> dict[str, dict[str, Judged]]:
    """Sort scores and rationales by source and record.

    Raises:
        InputError: a source speaks twice of one record.
    """
    if isinstance(scores, Mapping):
        pairs = [(name, item) for name, items in scores.items() for item in items]
    else:
        pairs = [(item.method if isinstance(item, WordScores) else item.source, item) for item in scores]
    sources: dict[str, dict[str, Judged]] = {}
    for name, item in pairs:
        said = sources.setdefault(name, {})
        if item.record_id in said:
            raise InputError(f"{name} has two rationales for record {item.record_id!r}")
        said[item.record_id] = item
    return sources


def having_scores(records: Sequence[Record], sources: Sources) -> list[Record]:
    """Keep the records that some source speaks of.

    Raises:
        InputError: there is none, or a source speaks of a record that is not in the data.
    """
    known = {record.id for record in records}
    for name, said in sources.items():
        strange = next((record_id for record_id in said if record_id not in known), None)
        if strange is not None:
            raise InputError(f"{name} speaks of record {strange!r}, which is not in the data")
    spoken = {record_id for said in sources.values() for record_id in said}
    kept = [record for record in records if record.id in spoken]
    if not kept:
        raise InputError("no record has scores or a rationale to judge")
    return kept


class Judge:
    """Looks at records, chunk by chunk: what each source chose, how it agrees with people, what the model does."""

    def __init__(
        self,
        model: Predictor | None,
        records: Sequence[Record],
        sources: Sources,
        options: Options,
        tuned: Predictor | None = None,
    ) -> None:
        expect_possible(options.also, model, tuned, options.one_out)
        self.model, self.sources, self.options = model, sources, options
        self.extras = [EXTRAS[name] for name in dict.fromkeys(options.also)]
        self._asks = [extra.ask for extra in self.extras if extra.ask]
        self.budget: Budget = parse_budget(options.budget)
        if self.budget.kind == "match" and self.budget.source not in sources:
            raise InputError(f"budget {options.budget}: no source is called {self.budget.source!r}")
        if model is not None:
            operator = operator_of(model.tokenizer, records, options)
            ratios = options.ratios if gives_probabilities(model) else ()
            self.plan = Plan(operator, ratios, options.draws, options.one_out, options.seed, options.beam)
        self.tuned = Tuned(tuned, operator_of(tuned.tokenizer, records, options)) if tuned is not None else None

    def __call__(self, records: Sequence[Record], known: dict[bytes, Probabilities] | None = None) -> list[Item]:
        """Look at some records.

        Args:
            records: of those that the judge was made with.
            known: the model's answers to earlier inputs, which are not asked again; added to.
        """
        tokens, grids, people, chosen = self._laid_out(records)
        seen: Sequence[Observation | None] = [None] * len(records)
        more: Sequence[Found] = []
        if self.model and tokens:
            known = {} if known is None else known
            seen = observe(self.model, tokens, people, chosen, self.plan, known=known, further=self._asks)
            look = Look(self.model, self.tuned, records, tokens, chosen, seen, self.plan, known)
            more = [extra.function(look) for extra in self.extras]
        further = [[found[index] for found in more] for index in range(len(records))]
        rows = zip(records, grids, tokens or [None] * len(records), people, chosen, seen, further, strict=True)
        return [self._item(*row) for row in rows]

    def questions(self, records: Sequence[Record]) -> int:
        """Count what the model is asked at most: every record as it is, and each distinct masking of it."""
        tokens, _, people, chosen = self._laid_out(records)
        return count_maskings(tokens, people, chosen, self.plan, self._asks) if tokens else 0

    def _laid_out(
        self, records: Sequence[Record]
    ) -> tuple[list[Tokens] | None, list[WordGrid], list[Mask], list[dict[str, Chosen]]]:
        """Give the records' tokens (None without a model), words, what people marked and what each source chose."""
        tokens = self.model.encode(records) if self.model else None
        segment = SEGMENTERS[self.options.words]
        grids = [row.grid for row in tokens] if tokens else [word_grid(record, segment) for record in records]
        people = [human_masks(record, grid) for record, grid in zip(records, grids, strict=True)]
        return tokens, grids, people, [self._choose(*row) for row in zip(grids, people, strict=True)]

    def _choose(self, grid: WordGrid, people: Mask) -> dict[str, Chosen]:
        """Give what each source chose in one record under the budget; a source that can't choose is absent."""
        human = human_size(people)
        said = {name: items[grid.record_id] for name, items in self.sources.items() if grid.record_id in items}
        chosen: dict[str, Chosen] = {}
        for name, item in said.items():
            if isinstance(item, Rationale):
                if "asked" in item.notes and "reply" not in item.notes and item.failure:
                    continue  # nobody was asked, or nobody answered
                chosen[name] = Chosen(grid.join(item.words, fill=False).astype(np.bool_), None)
                continue
            scores = grid.join(item.scores, fill=np.nan).astype(np.float32)
            size = self.budget.size(scores, human, self._matched(said))
            if size is not None and not np.isnan(scores).all():
                chosen[name] = Chosen(top_k(scores, size, self.options.rank), scores)
        return chosen

    def _failure(self, name: str, record_id: str, chosen: Mapping[str, Chosen]) -> str | None:
        """Say why a source has no rationale for a record; None where it has one."""
        item = self.sources[name].get(record_id)
        if item is None:
            return "no scores or rationale"
        if isinstance(item, Rationale):
            return item.failure
        if name in chosen:
            return None
        scored = any((~np.isnan(values)).any() for values in item.scores.values())
        return f"the budget {self.budget} is undefined here" if scored else "no word has a score"

    def _matched(self, said: Mapping[str, Judged]) -> int | None:
        """Give how many words the matched source chose in this record."""
        item = said.get(self.budget.source)
        if item is None:
            return None
        if isinstance(item, WordScores):
            raise InputError(f"budget {self.budget}: {self.budget.source} has scores, not a rationale with a size")
        return int(sum(mask.sum() for mask in item.words.values()))

    def _item(  # noqa: PLR0917
        self,
        record: Record,
        grid: WordGrid,
        tokens: Tokens | None,
        people: Mask,
        chosen: Mapping[str, Chosen],
        seen: Observation | None,
        more: Sequence[Mapping[str, Metrics]],
    ) -> Item:
        visible = tokens.seen if tokens else np.ones(len(grid), dtype=np.bool_)
        predicted = self._label(record, seen, ("whole", ""))
        agreement = Agreement(people, visible, grid.sizes, self.options.aggregate, self.options.seed)
        looked_at = seen is not None and subset_rows([predicted], [record.label], self.options.subset)[0]
        sources: dict[str, SourceItem] = {}
        for name in self.sources:
            failure = self._failure(name, record.id, chosen)
            said = self.sources[name].get(record.id)
            replied = measure_reply(said) if isinstance(said, Rationale) else {}
            if name not in chosen:
                sources[name] = SourceItem(words=[], scores=None, metrics={**replied}, failure=failure)
                continue
            found = agreement.measure(chosen[name]) if people.any() else {}
            if seen is not None and looked_at:
                found |= measure_behaviour(seen, name, chosen[name], self.plan.ratios)
                for further in more:
                    found |= further.get(name, {})
            sources[name] = self._source_item(record, name, chosen[name], found | replied, seen, failure)
        asked = [note for note in record.annotations if note.rationale is not None]
        return Item(
            record_id=record.id,
            texts=record.fields,
            words={name: [(span.start, span.end) for span in spans] for name, spans in grid.words.items()},
            label=record.label,
            predicted=predicted,
            probability=float(seen["whole", ""].max()) if seen and self.plan.ratios else None,
            people=[
                (note.annotator or f"person {index + 1}", np.flatnonzero(mask).tolist())
                for index, (note, mask) in enumerate(zip(asked, people, strict=True))
            ],
            sources=sources,
            unseen=np.flatnonzero(~visible).tolist(),
            label_full=self._label(record, seen, ("full", "")),
        )

    def _source_item(  # noqa: PLR0917
        self,
        record: Record,
        name: str,
        choice: Chosen,
        found: Metrics,
        seen: Observation | None,
        failure: str | None,
    ) -> SourceItem:
        scores = None if choice.scores is None else choice.scores.astype(np.float64).round(6).tolist()
        return SourceItem(
            words=np.flatnonzero(choice.mask).tolist(),
            scores=None if scores is None else [None if np.isnan(score) else score for score in scores],
            metrics={key: None if np.isnan(value) else value for key, value in found.items()},
            label_without=self._label(record, seen, ("removed", name)),
            label_only=self._label(record, seen, ("kept", name)),
            failure=failure,
        )

    def _label(self, record: Record, seen: Observation | None, slot: tuple[str, str]) -> str | None:
        """Give the model's answer to a masking, in the spelling of the record's own labels; None = no valid one."""
        index = answers(seen[slot][:1])[0] if seen else None
        if index is None or self.model is None:
            return None
        answer = self.model.labels[index]
        spellings = (*record.label_set, *([record.label] if record.label else []))
        return next((label for label in spellings if label.casefold() == answer.casefold()), answer)


def operator_of(tokenizer: Any, records: Sequence[Record], options: Options) -> Operator:
    """Make the mask operator of the options for a tokenizer."""
    name = options.mask or default_name(tokenizer)
    corpus = corpus_of(records) if name == "unigram" else ()
    return make_operator(name, tokenizer, options.unit, corpus, options.seed)


def conclude(
    items: Sequence[Item], options: Options, *, model: Predictor | None, frame: dict[str, Any], said: Sources
) -> Verdict:
    """Make the verdict of what was seen in every record.

    Args:
        items: what `Judge` gave.
        options: how they were judged.
        model: asked for its name and labels alone.
        frame: where it all comes from, see `raison.runs.provenance`.
        said: the scores themselves, for what they note of their making.
    """
    settings = Settings(options.level, options.resamples, options.seed)
    validity = _validity(items, model.labels) if model else None
    notes = [*notes_of(items, options), *notes_of_model(items, model), *notes_of_scores(said)]
    withheld = validity.withheld if validity else {}
    if model and not gives_probabilities(model):
        withheld = {**withheld, "probabilities": summarise.UNGRADED}
    return Verdict(
        model=model.name if model else None,
        cells=summarise.cells(items, withheld, settings),
        comparisons=summarise.comparisons(items, withheld, settings),
        curves=summarise.curves(items, options.ratios, settings),
        validity=validity,
        notes=[*notes, *summarise.power_notes(items, settings)],
        items=list(items),
        provenance=frame,
    )


def _validity(items: Sequence[Item], labels: Sequence[str]) -> Validity:
    """Ask whether the model's decisions leave faithfulness anything to measure."""
    answers = [item.predicted for item in items]
    spelled = {str(label).casefold(): label for item in items for label in (item.label, item.predicted) if label}
    tables = summarise.columns_of(items).values()
    random = [flip_rate(columns["flip_rate.random"]) for columns in tables if "flip_rate.random" in columns]
    known = [rate for rate in random if rate is not None]
    return assess(
        answers,
        [item.label for item in items],
        [spelled.get(label.casefold(), label) for label in labels],
        flip_rate_full=flip_rate(flips(answers, [item.label_full for item in items])),
        flip_rate_random=float(np.mean(known)) if known else None,
    )
