"""The map as a law: which way imports point, which file knows about devices, and what no file may be called."""

import ast
import builtins
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    "research",
    "configs",
    "experiments",
    "listing",
    "arguments",
    "launch",
]  # each may import itself and what stands before it

# What each package of research/ may import of the others; top-level files of research/ are open to all.
MAY_IMPORT = {
    "analysis": {"data", "models", "scaling", "tasks", "testing", "training"},
    "nn": set(),
    "models": {"nn"},
    "pretrained": {"models", "nn"},
    "probes": set(),
    "boxes": set(),
    "image": set(),
    "losses": {"boxes", "image"},
    "metrics": {"boxes", "image", "losses"},
    "tasks": {"boxes", "losses", "metrics"},
    "data": set(),
    "scaling": {"models", "nn"},
    "training": {"data", "losses", "metrics", "models", "pretrained", "probes", "scaling", "sweeps", "tasks"},
    "sweeps": {"data", "models", "scaling", "training"},
    "reports": {"scaling", "sweeps"},  # reads records: no model, no task, no training
    "testing": {"losses", "metrics", "models", "nn", "scaling", "tasks"},
}

DEVICES = ROOT / "research" / "training" / "parallel.py"
DEVICE_WORDS = {"Mesh", "make_mesh", "NamedSharding", "PartitionSpec", "pmap", "shard_map"}
NO_NAMES = {"utils", "util", "common", "helpers", "misc"}

FILES = sorted(
    file for layer in LAYERS for file in (*ROOT.glob(f"{layer}.py"), *(ROOT / layer).rglob("*.py")) if file.is_file()
)
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


def _imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, at any depth of it: `from a import b` gives `a.b`."""
    package = file.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def _words(file: Path) -> Iterator[str]:
    """Every identifier in the code of a file (not in its strings and comments), and what it imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
            if node.attr == "sharding" and isinstance(node.value, ast.Name) and node.value.id == "jax":
                yield "jax.sharding"
    for name in _imports(file):
        yield from name.split(".")
        if name.startswith("jax.sharding"):
            yield "jax.sharding"


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that a file's code looks for outside of its functions and classes, at any depth."""
    at_top = table.get_type() == "module"
    yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (at_top or s.is_global()))
    for inner in table.get_children():
        yield from _globals(inner)


@every_file
def test_every_name_is_defined(file: Path) -> None:
    """Neither ruff nor mypy looks: to them the words of shapes in annotations are undefined names."""
    table = symtable.symtable(file.read_text(), str(file), "exec")
    known = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    known |= {name for inner in table.get_children() for name in [inner.get_name()]} | set(dir(builtins))
    assert not set(_globals(table)) - known - {"__file__", "__name__", "__doc__", "__path__"}


@every_file
def test_imports_point_from_launch_to_research(file: Path) -> None:
    layer = file.relative_to(ROOT).parts[0].removesuffix(".py")
    above = set(LAYERS[LAYERS.index(layer) + 1 :]) | {"tests", "benchmarks"}
    assert not {name for name in _imports(file) if name.split(".")[0] in above}


@every_file
def test_packages_of_research_know_only_what_the_map_says(file: Path) -> None:
    parts = file.relative_to(ROOT).parts
    if parts[0] != "research" or len(parts) == 2:
        return
    allowed = MAY_IMPORT[parts[1]] | {parts[1]}
    forbidden = MAY_IMPORT.keys() - allowed
    assert not {name for name in _imports(file) if name.startswith("research.") and name.split(".")[1] in forbidden}


@every_file
def test_only_one_file_knows_about_devices(file: Path) -> None:
    if file != DEVICES:
        assert not (DEVICE_WORDS | {"jax.sharding"}) & set(_words(file))


@every_file
def test_a_file_is_named_for_what_is_in_it(file: Path) -> None:
    assert file.stem not in NO_NAMES


def test_every_package_of_research_is_on_the_map() -> None:
    packages = {path.parent.name for path in (ROOT / "research").glob("*/*.py")}
    assert packages <= MAY_IMPORT.keys()
    assert DEVICES.is_file()
    assert len(FILES) > 20
