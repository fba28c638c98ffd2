"""The command line: `raison data · train · extract · ask · evaluate · grade · report · demo`, and more.

Every command is a few lines over the library. What the user gave wrong is answered with one line and exit status 2.
"""

from raison.cli import compare, data, extract, grade, judge, probe, study, train
from raison.cli.common import app, main

__all__ = ["app", "compare", "data", "extract", "grade", "judge", "main", "probe", "study", "train"]
