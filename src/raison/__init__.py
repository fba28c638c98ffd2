"""raison: the reasons behind labels. Extract a model's rationales, judge them, and report.

records = raison.load("esnli.jsonl")
model   = raison.Classifier.load("path-or-hub-id")
scores  = raison.extract(model, records, method="input_x_gradient")
verdict = raison.evaluate(model, records, scores, budget="human")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raison.attribution import METHODS, extract, extract_to_file
    from raison.attribution.imports import from_captum, from_inseq
    from raison.evaluation import Options, Verdict, evaluate
    from raison.masking import make_operator
    from raison.models import Answerer, Classifier, Tagger, Writer
    from raison.prompting import explain
    from raison.rationales import Budget, Rationale, WordScores, load_scores, parse_budget, save_scores
    from raison.records import Annotation, InputError, Prediction, Record, Span, read_records, write_records
    from raison.report import write_report
    from raison.sources import SOURCES, load, scan
    from raison.testbed import make_corpus
    from raison.training import Config, LoraConfig, finetune, finetune_lora, finetune_tagger
    from raison.words import word_grid

__version__ = "0.1.0"

# Where each public name lives. A room is imported when it is first asked for, so that `import raison` is instant.
_HOMES = {
    "attribution": ("METHODS", "extract", "extract_to_file"),
    "attribution.imports": ("from_captum", "from_inseq"),
    "evaluation": ("Options", "Verdict", "evaluate"),
    "masking": ("make_operator",),
    "models": ("Answerer", "Classifier", "Tagger", "Writer"),
    "prompting": ("explain",),
    "rationales": ("Budget", "Rationale", "WordScores", "load_scores", "parse_budget", "save_scores"),
    "records": ("Annotation", "InputError", "Prediction", "Record", "Span", "read_records", "write_records"),
    "report": ("write_report",),
    "sources": ("SOURCES", "load", "scan"),
    "testbed": ("make_corpus",),
    "training": ("Config", "LoraConfig", "finetune", "finetune_lora", "finetune_tagger"),
    "words": ("word_grid",),
}

__all__ = [
    "METHODS",
    "SOURCES",
    "Annotation",
    "Answerer",
    "Budget",
    "Classifier",
    "Config",
    "InputError",
    "LoraConfig",
    "Options",
    "Prediction",
    "Rationale",
    "Record",
    "Span",
    "Tagger",
    "Verdict",
    "WordScores",
    "Writer",
    "evaluate",
    "explain",
    "extract",
    "extract_to_file",
    "finetune",
    "finetune_lora",
    "finetune_tagger",
    "from_captum",
    "from_inseq",
    "load",
    "load_scores",
    "make_corpus",
    "make_operator",
    "parse_budget",
    "read_records",
    "save_scores",
    "scan",
    "word_grid",
    "write_records",
    "write_report",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            if home == "evaluation":
                import_module("raison.report")  # so that a verdict can show itself
            value = getattr(import_module(f"raison.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'raison' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
