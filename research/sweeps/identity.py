"""What a run is: the digest of its config, of the code that can change its numbers, and of its data.

The code is the syntax trees, without comments and docstrings, of the project files the run imports: a static walk of
the import statements from the loops of `research/training`, plus the files its config chooses by name (the model's, the
task's, the loss's). Packages that find their files by reading the folder are entered only through such a choice, so
an edit to another architecture family, or a new one, changes no identity.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from research import catalogue
from research.config import Config, DataConfig
from research.config import digest as digest_of_config
from research.errors import unknown

PROJECT = Path(__file__).resolve().parents[2]
COUNTER = "research.scaling.totals"
ENTRIES = ("research.training.loop", "research.training.population")


@dataclass(frozen=True)
class RunIdentity:
    """Who a run is: `id` (16 hex digits, the name of its folder) and the three digests it is made of (hex)."""

    id: str
    config_digest: str
    code_digest: str
    data_fingerprint: str


def identity(config_digest: str, code_digest: str, data_fingerprint: str) -> RunIdentity:
    """The identity with these three parts; `id` is the start of the sha256 over them."""
    text = "\n".join((config_digest, code_digest, data_fingerprint))
    return RunIdentity(hashlib.sha256(text.encode()).hexdigest()[:16], config_digest, code_digest, data_fingerprint)


def run_identity(config: Config) -> RunIdentity:
    """The identity of the run of `config`. Raises `UserError`: unknown model or loss, own file or data not there."""
    fingerprint = _fingerprint(config.data)
    if config.transfer.weights is not None:
        from research.training import transfer  # here, as digests of code alone need no jax

        fingerprint = f"{fingerprint} {transfer.weights_digest(config)}"
    return identity(digest_of_config(config), code_digest(config), fingerprint)


@functools.lru_cache(maxsize=64)
def _fingerprint(config: DataConfig) -> str:
    from research import data  # here, as digests of code alone need no jax

    return data.fingerprint(config)


def code_digest(config: Config) -> str:
    """Digest (hex) of the code that can change the numbers of the run of `config`. Raises `UserError`."""
    return _code_digest(*_chosen(config))


def _chosen(config: Config) -> tuple[str, str, str, bool]:
    """What of a config decides which files its run imports: the network's family or own file, task, loss, transfer."""
    model = config.model.name
    family = model if catalogue.is_path(model) else _model_module(model)
    return family, config.task.name, config.task.loss, config.transfer.weights is not None


@functools.lru_cache(maxsize=1024)
def _code_digest(family: str, task: str, loss: str, transfer: bool) -> str:
    """Computed once per process: a file edited while a sweep runs is not the code that this process has loaded."""
    return files_digest(_files(family, task, loss, transfer, PROJECT))


def counting_digest(models: Iterable[str]) -> str:
    """Digest (hex) of what decides how these networks of the catalogue are counted: code, versions of JAX and Flax.

    Raises `UserError` for a model the catalogue does not know.
    """
    names = [COUNTER, *map(_model_module, models)]
    files = _reached([file for name in names for file in _locate(name, [PROJECT])], [PROJECT], PROJECT)
    versions = (f"{package} {metadata.version(package)}" for package in ("jax", "flax"))
    return hashlib.sha256("\n".join([files_digest(files), *versions]).encode()).hexdigest()


def files_digest(files: Iterable[Path], *, root: Path = PROJECT) -> str:
    """One sha256 (hex) over the syntax trees of `files` and their paths below `root`, and no other location.

    Comments, docstrings, blank space and line numbers do not change it; any other edit does.
    """
    parts = sorted((_label(file, root), _tree_digest(_read(file))) for file in set(files))
    return hashlib.sha256("\n".join(f"{label} {digest}" for label, digest in parts).encode()).hexdigest()


def code_files(config: Config, *, root: Path = PROJECT) -> list[Path]:
    """The project files that the run of `config` imports, and the user's own files it names, sorted by path.

    Raises `UserError` for a model the catalogue does not know, or an own file that cannot be loaded.
    """
    return sorted(_files(*_chosen(config), root))


def _files(family: str, task: str, loss: str, transfer: bool, root: Path) -> set[Path]:
    own = [_own_file(name, kind) for name, kind in ((family, "model"), (loss, "loss")) if catalogue.is_path(name)]
    roots = [root, *(file.parent for file in own)]
    chosen = [*ENTRIES, f"research.tasks.{task}"]
    if not catalogue.is_path(family):
        chosen.append(family)
        if transfer:
            chosen.append(family.replace("research.models.", "research.pretrained.references."))
    if not catalogue.is_path(loss):
        chosen.append(f"research.losses.{loss}")
    return _reached([*own, *(file for name in chosen for file in _locate(name, roots))], roots, root)


def _reached(first: Iterable[Path], roots: Iterable[Path], root: Path) -> set[Path]:
    """These files and all that they import."""
    waiting = list(first)
    found: set[Path] = set()
    followed: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            names = _imports(_read(file), _package(file, root)) - followed
            followed |= names
            waiting += (needed for name in names for needed in _locate(name, roots))
    return found


def _own_file(name: str, kind: str) -> Path:
    catalogue.load_object(name, kind)
    return Path(name.partition(":")[0]).expanduser().resolve()


def _model_module(name: str) -> str:
    """Dotted name of the family's file: the one with `name` in VARIANTS, else with a pattern in PATTERNS it fits."""
    families = catalogue.modules("research.models")
    for module in families.values():
        if name in getattr(module, "VARIANTS", {}):
            return module.__name__
    for module in families.values():
        for pattern in getattr(module, "PATTERNS", {}):
            if re.fullmatch(re.sub(r"\\{\w+\\}", r"\\d+", re.escape(pattern)), name):
                return module.__name__
    raise unknown(
        "model", name, [variant for module in families.values() for variant in getattr(module, "VARIANTS", {})]
    )


def _locate(name: str, roots: Iterable[Path]) -> Iterator[Path]:
    """The files below `roots` that must be there for the dotted `name`: its packages' `__init__`, and its own file.

    A last word that is no module and that the package's `__init__` does not define is looked for in the package's
    files: so packages that find their functions by reading the folder give the one file that defines it.
    """
    parts = name.split(".")
    for root in roots:
        for depth in range(1, len(parts) + 1):
            path = root.joinpath(*parts[:depth])
            found = [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
            yield from found
            init = path.parent / "__init__.py"
            if not found and depth > 1 and init.is_file() and parts[depth - 1] not in _defined(_read(init)):
                siblings = (file for file in path.parent.glob("*.py") if file != init)
                yield from (f for f in siblings if parts[depth - 1] in _defined(_read(f), own=True))


@functools.lru_cache(maxsize=1024)
def _defined(code: str, *, own: bool = False) -> frozenset[str]:
    """Names that the top level of a file binds: by def, class or assignment, and (unless `own`) by import."""
    names: set[str] = set()
    for node in _tree(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom) and not own:
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return frozenset(names)


@functools.lru_cache(maxsize=1024)
def _imports(code: str, package: tuple[str, ...]) -> frozenset[str]:
    """Dotted names that code in `package` may load: its import statements, and attributes of what they bind.

    `from a import b` gives `a` and `a.b`, and a later `b.c` gives `a.b.c`: what is no file is dropped by `_locate`.
    """
    names: list[str] = []
    bound: dict[str, str] = {}
    nodes = list(ast.walk(_tree(code)))
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
            bound |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
            bound |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            names.append(f"{bound[node.value.id]}.{node.attr}")
    return frozenset(name.strip(".") for name in names) - {""}


def _package(file: Path, root: Path) -> tuple[str, ...]:
    return file.parent.relative_to(root).parts if file.is_relative_to(root) else ()


def _label(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1024)
def _tree(code: str) -> ast.Module:
    return ast.parse(code)


@functools.lru_cache(maxsize=1024)
def _tree_digest(code: str) -> str:
    return hashlib.sha256(_canonical(_tree(code)).encode()).hexdigest()


def _canonical(node: object) -> str:
    """A syntax tree as text: node types and fields; empty fields are left out, as newer Pythons have more of them."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, list):
        return f"[{','.join(_canonical(item) for item in node if not _is_bare_string(item))}]"
    if isinstance(node, ast.AST):
        fields = {name: _canonical(value) for name, value in ast.iter_fields(node) if value is not None}
        return f"{type(node).__name__}({','.join(f'{name}={text}' for name, text in fields.items() if text != '[]')})"
    return repr(node)


def _is_bare_string(node: object) -> bool:
    """A docstring, or any other statement that is only a string: it does nothing when run."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
