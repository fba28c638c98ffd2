"""What the benchmarks share: the model, the texts, timing in pairs, and tables. Needs torch and transformers alone.

It is also imported in the peers' own environments (transformers 4 among them), where raison is not installed.
"""

import json
import statistics
import string
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LABELS = ("entailment", "neutral", "contradiction")
TARGET = 1  # the label explained everywhere: nobody has to predict first
FILES = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}

Arrays = list[np.ndarray]


class Inputs(NamedTuple):
    """The texts of all benchmarks."""

    pairs: list[tuple[str, str]]  # 64 sentence pairs, about 30.7 tokens with their special tokens
    singles: list[str]  # each pair as one text, for peers that read no pairs
    long: str  # one text of 500 tokens


# ---------------------------------------------------------------------------------------------- model and texts


def words(count: int = 7943) -> list[str]:
    """Make up words, which are one token each."""
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    return [f"{a}{b}" for a in syllables for b in syllables][:count]


def texts(items: int = 64, seed: int = 0) -> Inputs:
    """Draw the texts. One word in twenty falls into two tokens."""
    rng = np.random.default_rng(seed)
    known = np.array(words())

    def sentence(size: int, broken: float = 0.05) -> str:
        drawn = rng.choice(known, size=size)
        return " ".join(f"{word}x" if rng.random() < broken else str(word) for word in drawn)

    lengths = [
        np.clip(rng.normal(mean, spread, items), 3, 40).round().astype(int) for mean, spread in ((17, 6), (9, 3))
    ]
    pairs = [(sentence(a), sentence(b)) for a, b in zip(*lengths, strict=True)]
    return Inputs(pairs, [f"{a} {b}" for a, b in pairs], sentence(498, broken=0))


def make(folder: Path, items: int = 64) -> None:
    """Write model, tokenizer and texts into a folder, from which every process reads the same."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification

    vocabulary = [*FILES.values(), *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase), *words()]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    sides = [(name, vocabulary.index(name)) for name in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", sides)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    wide = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    wide["initializer_range"] = 0.1  # scores of some size (0.1 to 1), so that differences say something
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(vocab_size=len(vocabulary), **wide, **names))
    model.save_pretrained(folder / "model")
    (folder / "texts.json").write_text(json.dumps(texts(items)._asdict()))


def load(folder: Path) -> tuple[Any, Any, Inputs]:
    """Read model, tokenizer and texts; by names that transformers 4 and 5 both have."""
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast

    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), model_input_names=inputs, model_max_length=512, **FILES
    )
    model = BertForSequenceClassification.from_pretrained(folder / "model").eval()
    found = json.loads((folder / "texts.json").read_text())
    return model, tokenizer, Inputs([tuple(pair) for pair in found["pairs"]], found["singles"], found["long"])


# ------------------------------------------------------------------------------------------------------- timing


class Timed(NamedTuple):
    """What paired runs gave."""

    ours_s: float
    peer_s: float
    ratio: float  # peer over ours, median of the pairs
    ours: Any
    peer: Any


clock: Callable[[], float] = time.perf_counter  # a benchmark may take time.process_time, where one thread works


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = clock()
    result = call()
    return clock() - start, result


def paired(ours: Callable[[], Any], peer: Callable[[], tuple[float, Any]], rounds: int) -> Timed:
    """Run both in turn, after one run of each that is not counted.

    Args:
        ours: what is timed here.
        peer: gives its own time and its result; it may run in another process.
        rounds: how many pairs.
    """
    seconds(ours), peer()
    times: list[tuple[float, float]] = []
    mine: Any = None
    theirs: Any = None
    for turn in range(rounds):
        if turn % 2:  # whoever goes first has the colder caches
            other, theirs = peer()
            own, mine = seconds(ours)
        else:
            own, mine = seconds(ours)
            other, theirs = peer()
        times.append((own, other))
    own_s, peer_s = (statistics.median(column) for column in zip(*times, strict=True))
    return Timed(own_s, peer_s, statistics.median(other / own for own, other in times), mine, theirs)


def difference(ours: Arrays, theirs: Arrays) -> float:
    """Give the largest absolute difference; arrays of other shapes are an error, not a difference."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


# ----------------------------------------------------------------------------------------------- other processes


class Worker:
    """A peer in an interpreter of its own: asked over a pipe for one run at a time, it times itself."""

    def __init__(self, python: str, script: Path, folder: Path, threads: int) -> None:
        self.process = subprocess.Popen(
            [python, str(script), str(folder), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request: Any) -> Any:
        """Send a request and wait for its answer.

        Raises:
            RuntimeError: the worker ended or answers with an error.
        """
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:  # peers print what they like; answers are marked
            if line.startswith("@@"):
                answer = json.loads(line[2:])
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer
        raise RuntimeError(f"the worker ended ({self.process.wait()})")

    def close(self) -> None:
        """Let the worker end."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait(timeout=30)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests on the standard input until it ends."""
    import sys

    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # whatever a peer raises is its answer
            found = {"error": f"{type(error).__name__}: {error}"}
        print("@@" + json.dumps(found), flush=True)


# ------------------------------------------------------------------------------------------------------- tables


def row(case: str, peer: str, timed: Timed, max_abs_diff: float | None) -> dict[str, Any]:
    """Make a row of the result file."""
    return {
        "case": case,
        "peer": peer,
        "ours_s": round(timed.ours_s, 5),
        "peer_s": round(timed.peer_s, 5),
        "ratio": round(timed.ratio, 4),
        "max_abs_diff": max_abs_diff,
    }


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as a table."""
    table = [list(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
