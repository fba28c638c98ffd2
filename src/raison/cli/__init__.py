"""The command line: `raison data · train · extract · ask · evaluate · grade · report · demo`, and more.

Every command is a few lines over the library. What the user gave wrong is answered with one line and exit status 2.
"""

from raison.cli import (
    attribution_judge,
    compare,
    data,
    extract,
    grade,
    imitate,
    imitation,
    judge,
    kit,
    pairs,
    people,
    probe,
    stability,
    study,
    study_capo,
    teach,
    train,
    welcome,
)
from raison.cli.common import app, main

__all__ = [
    "app",
    "attribution_judge",
    "compare",
    "data",
    "extract",
    "grade",
    "imitate",
    "imitation",
    "judge",
    "kit",
    "main",
    "pairs",
    "people",
    "probe",
    "stability",
    "study",
    "study_capo",
    "teach",
    "train",
    "welcome",
]
