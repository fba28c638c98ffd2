"""What mkdocs does to a page before it is rendered: the help of a command takes the place of `<!-- help: COMMAND -->`.

So the options on the page are those that the command has, and nobody has to keep them in step.
"""

import os
import re
import subprocess
import sys
from typing import Any

MARK = re.compile(r"^<!-- help: *([a-z ]*?) *-->$", re.MULTILINE)
PROGRAM = "import sys; from raison.cli import main; sys.argv[0] = 'raison'; main()"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the text of `raison COMMAND --help` in the place of every mark on a page."""
    return MARK.sub(lambda mark: f"```text\n{help_of(mark[1])}\n```", markdown)


def help_of(command: str) -> str:
    """Give what `raison COMMAND --help` prints.

    Raises:
        ValueError: there is no such command.
    """
    arguments = [sys.executable, "-c", PROGRAM, *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": "80"}
    found = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    if found.returncode:
        raise ValueError(f"raison {command} --help: {found.stderr.strip()}")
    return found.stdout.strip()
