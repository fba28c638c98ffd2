"""The command line: `raison data · train · extract · ask · evaluate · report · demo`, and what compares and probes.

Every command is a few lines over the library. What the user gave wrong is answered with one line and exit status 2.
"""

from raison.cli import compare, data, extract, judge, probe, train
from raison.cli.common import app, main

__all__ = ["app", "compare", "data", "extract", "judge", "main", "probe", "train"]
