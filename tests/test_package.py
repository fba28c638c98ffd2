"""The house as a whole: every module imports, public names are there, arrows point one way, nothing grows too big."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import raison

PACKAGE = Path(raison.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages(raison.__path__, "raison."))

# From the ground floor up: a room imports only what stands before it. `demo` is a study that comes with the package.
ROOMS = (
    "records", "runs", "words", "rationales", "masking", "sources", "testbed", "models", "attribution", "prompting",
    "evaluation", "checks", "training", "annotators", "report", "studies", "demo", "cli",
)  # fmt: skip
# What a room must not know, although it stands above it.
STRANGERS = {
    "evaluation": {"torch", "transformers", "raison.models", "raison.attribution", "raison.testbed"},
    "report": {"torch", "transformers", "raison.models", "raison.attribution", "raison.training", "raison.testbed"},
    "sources": {"torch", "transformers", "raison.masking"},
    "records": {"torch", "transformers", "numpy"},
}
DOORS = ("__init__", "__main__")  # they only let people in
LINES, FUNCTION, MEDIAN = 400, 60, 10


def room_of(path):
    """Name the room of a file of ours: the first part of its path in the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree, package):
    """Yield (line, full dotted name) of every import in a module, wherever in it it stands.

    `from raison import words` is an import of `raison.words`; a relative import counts from `package`; and so is
    `import_module("raison.words")`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((node.lineno, ast.literal_eval(name)) for name in node.args if isinstance(name, ast.Constant))
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "raison" else [base]
            yield from ((node.lineno, name) for name in names)


def upward(path):
    """Yield a line for every import in a file that points up the house, or to its own level under another name."""
    here = room_of(path)
    package = ".".join(["raison", *path.relative_to(PACKAGE).parts[:-1]])
    for line, name in imported(ast.parse(path.read_text(encoding="utf-8")), package):
        parts = name.split(".")
        if any(name == stranger or name.startswith(f"{stranger}.") for stranger in STRANGERS.get(here, ())):
            yield f"{path.relative_to(PACKAGE)}:{line}: {here} must not know {name}"
        if parts[0] != "raison" or len(parts) < 2 or parts[1] in (here, "__version__"):
            continue
        if parts[1] not in ROOMS or ROOMS.index(parts[1]) >= ROOMS.index(here):
            yield f"{path.relative_to(PACKAGE)}:{line}: {here} imports {name}, which does not stand below it"


def functions(path):
    """Yield (name, lines) of every function of a file; lines without decorators and docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = node.body[0] if ast.get_docstring(node) is not None else None
            docstring = said.end_lineno - said.lineno + 1 if said else 0
            yield f"{path.relative_to(PACKAGE)}:{node.name}", node.end_lineno - node.lineno + 1 - docstring


def run(*command):
    """Run a command in a process of its own, with nothing of ours in its environment."""
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": ""}
    )


# ------------------------------------------------------------------------------------------------ modules, names


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_module_can_be_imported(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), "a module says what it is"


def test_every_public_name_is_there_and_says_what_it_is():
    wrong = []
    for name in raison.__all__:
        value = getattr(raison, name)
        if callable(value) and not (inspect.getdoc(value) or "").strip():
            wrong.append(f"{name} has no docstring")
        if not callable(value) and not isinstance(value, dict):
            wrong.append(f"{name} is a {type(value).__name__}; expected a function, a class or a table of names")
    assert not wrong
    assert set(raison.__all__) <= set(dir(raison))


def test_the_list_of_public_names_is_sorted_and_the_same_as_that_of_their_homes():
    homes = [name for names in raison._HOMES.values() for name in names]
    assert sorted(raison.__all__) == sorted(homes)
    assert len(homes) == len(set(homes))
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        raison.explane  # noqa: B018


def test_the_type_checker_sees_the_same_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    shown = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raison.")
        for alias in node.names
    }
    assert shown == {name: f"raison.{home}" for home, names in raison._HOMES.items() for name in names}


# ------------------------------------------------------------------------------------------------------- arrows


def test_a_room_imports_only_what_stands_below_it():
    wrong = [line for path in FILES if room_of(path) not in DOORS for line in upward(path)]
    assert not wrong, "\n".join(["arrows that point the wrong way:", *wrong])


def test_every_file_lives_in_a_room():
    assert {room_of(path) for path in FILES} <= {*ROOMS, *DOORS}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("words.py", "from raison.masking import apply"),
        ("words.py", "from raison import masking"),
        ("words.py", "import raison.cli"),
        ("masking.py", "def late():\n    from raison.models import Classifier"),
        ("evaluation/alignment.py", "from ..report import table"),
        ("evaluation/alignment.py", "import torch.nn"),
        ("report/html.py", "from raison.models.classifier import Classifier"),
        ("sources/table.py", "from raison.attic import old"),
        ("evaluation/measure.py", 'import importlib\nimportlib.import_module("raison.report")'),
    ],
)
def test_a_wrong_arrow_is_seen(file, line, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("from raison.records import Record\nimport numpy\n")
    assert not [*upward(path)]
    path.write_text(line)
    assert len([*upward(path)]) == 1


# --------------------------------------------------------------------------------------------------------- size


def test_no_file_is_too_long():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_functions_are_short():
    found = [pair for path in FILES for pair in functions(path)]
    assert [pair for pair in found if pair[1] > FUNCTION] == []
    assert median(length for _, length in found) <= MEDIAN


# ------------------------------------------------------------------------------------------------------- starts

HEAVY = ("torch", "transformers", "scipy", "sklearn", "matplotlib", "pyarrow", "datasets")


@pytest.mark.parametrize("statement", ["import raison; dir(raison)", "import raison.cli"])
def test_a_start_imports_nothing_heavy(statement):
    found = run(sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)")
    assert found.returncode == 0, found.stderr
    assert [name for name in HEAVY if name in found.stdout.split()] == []


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["data", "--help"], ["evaluate", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom raison.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('MODULES', *sys.modules)"
    )
    found = run(sys.executable, "-c", code)
    assert found.returncode == 0, found.stderr
    shown, _, modules = found.stdout.partition("MODULES")
    assert shown.startswith("Usage: ")
    assert [name for name in HEAVY if name in modules.split()] == []
