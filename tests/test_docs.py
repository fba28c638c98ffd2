"""The documentation is run: its Python and console blocks in order, one page after the other, offline.

A page is read from top to bottom. A block

- ```` ```python ```` is executed; all blocks of a page share one namespace;
- ```` ```console ```` holds `$ raison ...` commands, run by the real command line; lines below a command, if there are
  any, are what it prints (`...` stands for anything);
- ```` ```text ```` right after a Python block is what that printed;
- with a `title="NAME"` is written to a file of that name first.

`<!-- not run: reason -->` above a block leaves it out, `<!-- status: 2 -->` expects its last command to end so.
"""

import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple, get_args
from unittest.mock import patch

import pytest
import typer

import answerers
import raison
from raison.attribution import METHODS
from raison.attribution.gradients import BASELINES
from raison.cli import app, main
from raison.evaluation.alignment import Rule
from raison.evaluation.summarise import COMPARED, DROPS, MEANS, RATES, RATIOS
from raison.evaluation.validity import Verdict as Gate
from raison.masking import OPERATORS, Unit
from raison.rationales import Budget
from raison.records import Record
from raison.sources import SOURCES
from raison.sources.mapping import ColumnMap
from raison.sources.marks import FORMATS
from raison.testbed.corpus import make_corpus
from raison.words import REDUCTIONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEARNED = {"README.md", "judge.md"}  # pages that need a model that has learned something
SLOW = {*LEARNED, "start.md", "testbed.md"}
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w+)(?P<head>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
MARK = re.compile(r"<!-- (not run|status): (.+?) -->\s*\Z")


class Block(NamedTuple):
    """One fenced block of a page."""

    line: int
    kind: str  # python, console, text, json, ...
    title: str  # of the file it is; else empty
    body: str
    skipped: str  # why it is not run; else empty
    status: int  # with which its last command ends
    follows: bool  # nothing but white space stands between it and the block before


def blocks_of(text):
    """Cut a page into its fenced blocks."""
    last = 0
    for found in FENCE.finditer(text):
        before = text[last : found.start()]
        mark = MARK.search(before)
        what, value = mark.groups() if mark else ("", "")
        title = re.search(r'title="([^"]+)"', found["head"])
        yield Block(
            line=text.count("\n", 0, found.start()) + 1,
            kind=found["kind"],
            title=title[1] if title else "",
            body=textwrap.dedent(found["body"]),
            skipped=value if what == "not run" else "",
            status=int(value) if what == "status" else 0,
            follows=not before.strip(),
        )
        last = found.end()


def commands_of(block):
    """Give (command, what it prints) for each `$` line of a console block; a backslash goes on in the next line."""
    found = []
    for line in block.body.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [(command, "\n".join(lines).strip()) for command, lines in found]


def matches(wanted, given):
    """Whether a text is the wanted one: white space does not count, and `...` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in wanted.split("...")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), " ".join(given.split()), re.DOTALL) is not None


def call(command):
    """Run the command line in this process: (exit status, what it printed on either stream)."""
    shown = io.StringIO()
    arguments = shlex.split(command)
    assert arguments[0] == "raison", f"not a command of ours: {command!r}"
    with patch.object(sys, "argv", ["raison"]), contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            main(arguments[1:])
        except SystemExit as end:
            return end.code or 0, shown.getvalue()
    raise AssertionError("the command line always ends the process")


def run_page(page):
    """Run the blocks of a page in the current folder; the first that does not do what it says raises."""
    namespace = {"__name__": page.stem}
    printed = None
    for block in blocks_of(page.read_text(encoding="utf-8")):
        place = f"{page.name}:{block.line}"
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.body, encoding="utf-8")
        if block.kind == "text" and block.follows and printed is not None:
            assert matches(block.body, printed), f"{place}: it printed\n{printed}"
        printed = None
        if block.skipped or block.title:
            continue
        if block.kind == "console":
            run_console(block, place)
        if block.kind == "python":
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(compile("\n" * block.line + block.body, str(page), "exec"), namespace)
            printed = shown.getvalue()


def run_console(block, place):
    """Run the commands of a console block."""
    commands = commands_of(block)
    for command, wanted in commands:
        status, shown = call(command)
        expected = block.status if command == commands[-1][0] else 0
        assert status == expected, f"{place}: {command}: ended with {status}\n{shown}"
        if wanted:
            assert matches(wanted, shown), f"{place}: {command}: it printed\n{shown}"


# -------------------------------------------------------------------------------------------------------- pages


def furnish(folder, classifier):
    """Put into a folder what pages take for granted: records of the testbed, a classifier of them, a causal model."""
    raison.write_records(folder / "train.jsonl", make_corpus("single", 240, seed=1))
    raison.write_records(folder / "test.jsonl", make_corpus("single", 64, seed=2))
    classifier.model.save_pretrained(folder / "runs/base")
    classifier.tokenizer.save_pretrained(folder / "runs/base")
    words = answerers.tokenizer()
    answerers.causal("llama", words).save_pretrained(folder / "runs/lm")
    words.save_pretrained(folder / "runs/lm")
    return folder


@pytest.fixture(scope="session")
def untrained(tiny, tmp_path_factory):
    """A classifier that knows nothing, for pages that only show how things are called."""
    classifier = tiny.build("bert")
    classifier.model.config.id2label = dict(enumerate(("positive", "neutral", "negative")))
    return furnish(tmp_path_factory.mktemp("untrained"), classifier)


@pytest.fixture(scope="session")
def learned(trained, tmp_path_factory):
    """A classifier that has learned the corpus, for pages that show what comes of it."""
    return furnish(tmp_path_factory.mktemp("learned"), trained("single"))


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder to work in, without network and colour, 100 columns wide."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"HF_HUB_OFFLINE": "1", "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in PAGES]
)
def test_a_page_does_what_it_says(page, desk, request, trained):
    furnished = request.getfixturevalue("learned" if page.name in LEARNED else "untrained")
    shutil.copytree(furnished, desk, dirs_exist_ok=True)
    with patch("raison.training.small_model", trained), patch("raison.demo.small_model", trained):
        run_page(page)  # the models that pages train are those of other tests: each is trained once


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_closed_and_marked(page):
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len([*blocks_of(text)])
    for block in blocks_of(text):
        strange = [c for c, _ in commands_of(block) if not c.startswith("raison ")] if block.kind == "console" else []
        assert block.skipped or not strange, f"{page.name}:{block.line}: {strange} can't be run; mark the block"


# --------------------------------------------------------------------------- pages say what the package has


def doc(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def commands(group, before=""):
    """Yield the full name of every command."""
    for name, command in group.commands.items():
        full = f"{before} {name}".strip()
        yield from commands(command, full) if hasattr(command, "commands") else [full]


def named(text):
    """Give everything that stands in backticks, cut at what can't be part of a name."""
    return {part for code in re.findall(r"`([^`\n]+)`", text) for part in re.split(r"[^\w-]", code)}


def test_every_command_has_its_help_and_an_example():
    text = doc("cli.md")
    names = [*commands(typer.main.get_command(app))]
    assert re.findall(r"^<!-- help: (.*) -->$", text, re.MULTILINE) == re.findall(
        r"^## raison (.*)$", text, re.MULTILINE
    )
    assert sorted(re.findall(r"^## raison (.*)$", text, re.MULTILINE)) == sorted(names)
    shown = [command for block in blocks_of(text) for command, _ in commands_of(block)]
    assert [name for name in names if not any(one.startswith(f"raison {name} ") for one in shown)] == []


def test_the_help_on_the_page_is_that_of_the_command():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    shown = hooks.on_page_markdown("before\n\n<!-- help: extract -->\n\nafter")
    assert shown.startswith("before\n\n```text\nUsage: raison extract [OPTIONS]\n")
    assert shown.endswith("```\n\nafter")
    assert all(f"--{option} " in shown for option in ("model", "method", "target", "steps", "trust-remote-code"))
    with pytest.raises(ValueError, match="No such command 'explane'"):
        hooks.on_page_markdown("<!-- help: explane -->")


def test_every_public_name_is_on_the_python_page():
    paths = re.findall(r"^::: raison\.([\w.]+)$", doc("api.md"), re.MULTILINE)
    assert sorted(path.rpartition(".")[2] for path in paths) == sorted(raison.__all__)
    for path in paths:  # the long form stands where a module of the same name would be shown in its place
        home, _, name = f"raison.{path}".rpartition(".")
        assert getattr(importlib.import_module(home), name) is getattr(raison, name)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("extract.md", {*METHODS, *REDUCTIONS, *BASELINES}),
        ("judge.md", {*MEANS, *RATES, *DROPS, *RATIOS, *COMPARED}),
        ("judge.md", {operator.partition(":")[0] for operator in OPERATORS} | set(get_args(Unit))),
        ("judge.md", {*get_args(Rule), *get_args(Gate), *get_args(Budget.__annotations__["kind"])} - {"too few"}),
        ("data.md", {*SOURCES, *ColumnMap.__struct_fields__, *FORMATS, *Record.__struct_fields__}),
    ],
)
def test_a_page_has_every_name_of_its_subject(name, wanted):
    assert wanted - named(doc(name)) == set()


def test_the_readme_says_what_make_does_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"make (\w+)", text)) <= targets
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


# ------------------------------------------------------------------------------------------- the runner itself


def write(folder, text):
    page = folder / "page.md"
    page.write_text(textwrap.dedent(text), encoding="utf-8")
    return page


@pytest.mark.parametrize(
    "text",
    [
        "```python\nassert False\n```\n",
        "```python\nprint(2)\n```\n\n```text\n3\n```\n",
        "```console\n$ raison nonsense\n```\n",
        "```console\n$ raison --help\nSomething else\n```\n",
        "<!-- status: 2 -->\n```console\n$ raison --help\n```\n",
        "```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n",
        '```json title="a.txt"\n{}\n```\n\n```python\nassert open("a.txt").read() == "{ }\\n"\n```\n',
        '=== "tab"\n\n    ```python\n    assert False\n    ```\n',
    ],
)
def test_a_page_that_is_wrong_fails(text, desk):
    with pytest.raises(AssertionError):
        run_page(write(desk, text))


def test_a_page_that_is_right_passes(desk):
    run_page(
        write(
            desk,
            """
            ```json title="deep/a.txt"
            {}
            ```

            ```python
            x = open("deep/a.txt").read()
            print(x, 1.25)
            ```

            ```text
            {} 1...5
            ```

            ```text
            prose, compared with nothing
            ```

            ```console
            $ raison --help
            Usage: ... [OPTIONS] ...
            ```

            <!-- status: 2 -->
            ```console
            $ raison \\
                  nonsense
            raison: No such command 'nonsense'.
            ```

            <!-- not run: it would fail -->
            ```python
            assert x == "other"
            ```
            """,
        )
    )
