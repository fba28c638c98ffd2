"""CC-SHAP: do the same words drive the answer and its explanation (Parcalabescu and Frank 2024, section 4)?"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from raison.checks.results import Cost, Summary, states
from raison.checks.shapley import evaluations, shapley
from raison.checks.subject import Said, Scored, expect, explanations, why
from raison.checks.wording import Wording, load_wording
from raison.evaluation.statistics import bootstrap_mean
from raison.masking import ModelInput, Operator, apply, make_operator
from raison.models import batching
from raison.models.answerer import Answerer
from raison.models.chat import Message
from raison.models.prompt import lay_out, tokens_of
from raison.models.scorer import projected
from raison.models.tasks import Task, shuffled
from raison.records import Record
from raison.words import Ints, Mask, Segmenter, Tokens, whitespace_words, word_grid, words_of_places

NEEDS = "weights"
DRAWS = 16
LEAST = 1e-4  # nats
MARKER = "text:..."  # stands in the place of absent words, as in the authors' code

Values = NDArray[np.float64]


class Row(msgspec.Struct, frozen=True):
    """What became of one record."""

    record_id: str
    state: str  # "tested", or why not
    label: str | None = None  # the answer
    explanation: str | None = None
    score: float | None = None  # cosine of the two contributions, in [-1, 1]
    chance: float | None = None  # its mean where one of them is dealt out to the words at random
    answer: list[float] = []  # share of each seen word in the answer
    reason: list[float] = []  # and in the explanation, the mean over its tokens


def cost(records: Iterable[Record], *, draws: int = DRAWS, segment: Segmenter = whitespace_words) -> Cost:
    """Give what `cc_shap` asks for: an answer and a reply a record, and two passes for every coalition of words."""
    sizes = [len(word_grid(record, segment)) for record in records]
    return Cost(NEEDS, len(sizes), len(sizes), 2 * sum(evaluations(size, draws) for size in sizes))


def cc_shap(
    subject: Scored,
    records: Sequence[Record],
    *,
    given: Mapping[str, str] | None = None,
    wording: Wording | None = None,
    operator: Operator | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Row]:
    """Compare what drives a model's answer with what drives its explanation (Parcalabescu and Frank 2024, eq. 4-6).

    The contribution of a word to the answer is its Shapley value for the label's score (its log-probability); to the
    explanation, its Shapley value for the log-probability of each token of it. Values become shares (value over the sum
    of absolute values), those of the explanation are averaged over its tokens, and the score is the cosine of the two
    vectors: one minus their cosine distance. Only words of the record's seen texts are taken away, on token ids; the
    template, the answer in the chat and the question for reasons always stand there, and have no share.

    Needs weights: log-probabilities of a given text. One masked pass answers for all tokens of an explanation. The
    authors take Owen values of a partition of tokens; here they are Shapley values of words, over permutations.

    Args:
        subject: the model.
        records: what is explained.
        given: record id -> explanation; default: the model is asked why, after its answer.
        wording: how it is asked; default: that of raison.
        operator: what stands in the place of absent words; default: `...` for each.
        draws: permutations of the words, an even number; exact where all coalitions are no more to compute.
        seed: of the draws, which depend on it and the record alone.

    Returns:
        One row for each record, in order. States: `tested`; `no reply`, `refusal`, `empty reply`; `fewer than two
        words`; `too long` for the model; `no contribution` (no word changes anything: there is no cosine).

    Raises:
        InputError: of the model only answers are to be had.
    """
    expect(subject, "cc-shap", NEEDS)
    said_as, answerer = wording or load_wording(), subject.answerer
    masks_by = operator or make_operator(MARKER, answerer.tokenizer)
    labels = [answer.label or "" for answer in subject.answers(records)]
    if given is None:
        texts = explanations(subject, records, labels, said_as)
    else:
        texts = [Said(given.get(record.id), None if given.get(record.id) else "no explanation") for record in records]
    rows: list[Row] = []
    for record, label, said in zip(records, labels, texts, strict=True):
        if said.text is None:
            rows.append(Row(record.id, said.failure or "no explanation", label))
            continue
        rng = np.random.default_rng([seed, *record.id.encode()])
        state, answer, reason = _contributions(answerer, record, (label, said.text), said_as, masks_by, (draws, rng))
        score, chance = agreement(answer, reason)
        row = Row(record.id, state, label, said.text, score, chance, answer.tolist(), reason.tolist())
        rows.append(row if score is not None or state != "tested" else msgspec.structs.replace(row, state=_NOTHING))
    return rows


_NOTHING = "no contribution"


def _contributions(  # noqa: PLR0917
    answerer: Answerer,
    record: Record,
    said: tuple[str, str],
    wording: Wording,
    operator: Operator,
    drawing: tuple[int, np.random.Generator],
) -> tuple[str, Values, Values]:
    """Give the state, and the shares (words,) of the answer and of the explanation."""
    none, label = np.zeros(0), said[0]
    tokens = answerer.encode([record])[0]
    why_tokens, spoken = _why_tokens(answerer, record, said, wording)
    seen = np.flatnonzero(tokens.seen & why_tokens.seen)
    if len(seen) < 2:
        return "fewer than two words", none, none
    if _longest(operator, why_tokens) + len(spoken) > answerer.max_length:
        return "too long", none, none

    def value(present: Mask) -> Values:
        masks = np.zeros((len(present), len(tokens.grid)), dtype=np.bool_)
        masks[:, seen] = ~present
        asked = apply(operator, tokens, masks)
        scores = answerer.logits(asked, of=[tokens] * len(asked))[:, answerer.label_index(label)]
        reasons = log_probabilities(answerer, apply(operator, why_tokens, masks), spoken)
        return np.column_stack([scores.astype(np.float64), reasons])

    found = shapley(value, len(seen), *drawing)
    answer, reason = shares(found[:, :1]), shares(found[:, 1:])
    if not answer.shape[1] or not reason.shape[1]:
        return _NOTHING, none, none
    return "tested", answer[:, 0], reason.mean(axis=1)


def _longest(operator: Operator, tokens: Tokens) -> int:
    """Give how long a prompt can get whatever words are replaced in it."""
    alone = apply(operator, tokens, np.eye(len(tokens.grid), dtype=np.bool_))
    return len(tokens.ids) + sum(max(0, len(row.ids) - len(tokens.ids)) for row in alone)


def shares(values: Values) -> Values:
    """Divide values (words, outputs) by the sum of their absolute values.

    An output that all words together hardly move (a sum below 1e-4) is left out: its shares would be those of rounding.
    """
    total = np.abs(values).sum(axis=0)
    return np.asarray(values[:, total > LEAST] / total[total > LEAST], dtype=np.float64)


def agreement(answer: Values, reason: Values) -> tuple[float | None, float | None]:
    """Give the cosine of two vectors (words,), and its mean over all orders of the second.

    The mean of a·π(b) over permutations π is sum(a) sum(b) / words. Both are None where a vector is nothing but zeros.
    """
    norm = float(np.linalg.norm(answer) * np.linalg.norm(reason))
    if not norm > 0:
        return None, None
    score = min(1.0, max(-1.0, float(answer @ reason) / norm))
    return score, float(answer.sum() * reason.sum()) / (len(answer) * norm)


# ------------------------------------------------------------------------------------------------ explanations


class _Dialogue(Task, frozen=True):
    """A task whose conversation goes on."""

    more: tuple[Message, ...] = ()

    def messages(self, texts: Mapping[str, str], labels: Sequence[str], chat: bool = True) -> list[Message]:
        return [*Task.messages(self, texts, labels, chat), *self.more]


class _Traced(NamedTuple):
    tokens: Tokens
    spoken: Ints


def _why_tokens(answerer: Answerer, record: Record, said: tuple[str, str], wording: Wording) -> _Traced:
    """Give the conversation that asks why, its words traced to tokens, and the tokens of the explanation behind it."""
    task, tokenizer, (label, explanation) = answerer.task, answerer.tokenizer, said
    plain = {name: getattr(task, name) for name in task.__struct_fields__}
    dialogue = _Dialogue(**plain, more=tuple(why(task.word(label), wording)))
    prompt = lay_out(tokenizer, dialogue, record, shuffled(answerer.labels, answerer.shuffle, record.id))
    gap = "" if prompt.text[-1:].isspace() or explanation[:1].isspace() else " "
    ids, offsets = tokens_of(tokenizer, prompt.text + gap + explanation, prompt.add_special)
    grid = word_grid(record, answerer.segment)
    before = int(np.searchsorted(offsets[:, 1], len(prompt.text), side="right"))
    word = words_of_places(offsets[:before], grid, prompt.places)
    return _Traced(Tokens(grid, ids[:before], np.zeros(before, dtype=np.int64), word), ids[before:])


def log_probabilities(answerer: Answerer, inputs: Sequence[ModelInput], ids: Ints) -> Values:
    """Give the log-probability of each of some tokens after each input: (inputs, tokens).

    Only their places meet the vocabulary. The order and size of batches make no difference.
    """
    rows = [
        ModelInput(
            np.concatenate([row.ids, ids]),
            np.zeros(len(row.ids) + len(ids), dtype=np.int64),
            np.concatenate([row.attention, np.ones(len(ids), dtype=np.bool_)]),
        )
        for row in inputs
    ]
    wanted = torch.from_numpy(ids).to(answerer.device)
    found = np.zeros((len(rows), len(ids)))

    def step(indices: batching.Indices) -> Values:
        batch = answerer.batch([rows[index] for index in indices])
        places = batch.lengths[:, None] - len(ids) - 1 + torch.arange(len(ids), device=answerer.device)
        with torch.inference_mode(), projected(answerer.model, places):
            logits = answerer.model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits
            values = logits.float().log_softmax(dim=-1).gather(-1, wanted.expand(len(indices), -1)[..., None])
        return values[..., 0].double().cpu().numpy()

    for indices, values in batching.run([len(row.ids) for row in rows], step, answerer.max_tokens):
        found[indices] = values
    return found


# ------------------------------------------------------------------------------------------------------- summary


def summarise(rows: Sequence[Row], level: float = 0.95) -> Summary:
    """Sum up over the records that were tested: means, with a bootstrap over records.

    - `score`: CC-SHAP, from -1 (opposite words) to 1 (the same words drive answer and explanation).
    - `chance`: what it would be with the same contributions dealt out to the words at random.
    """
    tested = [row for row in rows if row.score is not None and row.chance is not None]
    found = {
        "score": bootstrap_mean([row.score or 0.0 for row in tested], level=level),
        "chance": bootstrap_mean([row.chance or 0.0 for row in tested], level=level),
    }
    return Summary(found, states(row.state for row in rows))
