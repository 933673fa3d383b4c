"""What SECURITY.md says of the code itself: no shell, nothing that listens, no pickle but by the restricted reader."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = sorted(
    file
    for layer in ("*.py", "research/**/*.py", "configs/*.py", "experiments/*.py", "tools/**/*.py", "benchmarks/**/*.py")
    for file in ROOT.glob(layer)
)
LIBRARY = [file for file in OURS if file.relative_to(ROOT).parts[0] not in ("tools", "benchmarks")]
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "os.execlp"}
# Whatever reads a pickle, or code, out of data.
READERS = {
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "marshal.loads",
    "shelve.open",
    "dill.load",
    "joblib.load",
}
READERS |= {"eval", "exec", "torch.load", "yaml.load", "cloudpickle.loads", "np.load", "numpy.load"}
READERS |= {"pickle_load", "submitit.core.utils.pickle_load"}
# The one subclass that names nothing but arrays, and what Slurm's jobs leave in a folder of the same user's.
ALLOWED = {"research/pretrained/unpickler.py": {"pickle.Unpickler"}}
ALLOWED |= {"research/sweeps/executors/slurm.py": {"submitit.core.utils.pickle_load"}}
LISTENS = {"socket", "socketserver", "http.server", "asyncio.start_server", "xmlrpc.server", "flask", "aiohttp"}
MAY_LISTEN = {"research/sweeps/together.py": {"socket"}}  # a file that does says in SECURITY.md to whom
every_file = pytest.mark.parametrize("file", OURS, ids=lambda file: str(file.relative_to(ROOT)))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute or a name; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def called(tree: ast.AST) -> Iterator[str]:
    """Names of what is called or inherited from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func)
        elif isinstance(node, ast.ClassDef):
            yield from map(dotted, node.bases)


@every_file
def test_no_program_goes_through_a_shell(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert not SHELLS & set(called(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call) and dotted(node.func).startswith("subprocess.") and node.args:
            words = node.args[0]
            assert not isinstance(words, ast.JoinedStr | ast.Constant), "a list of words, and no line of text"


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_reads_a_pickle_or_code_out_of_data(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    assert READERS & set(called(ast.parse(file.read_text()))) == ALLOWED.get(name, set())


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_listens(file: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    assert LISTENS & imported == MAY_LISTEN.get(file.relative_to(ROOT).as_posix(), set())


def test_the_tests_that_the_security_page_names_are_there() -> None:
    import re

    page = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/.]+?\.py)(?:::(\w+))?`", page)
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), (file, test)
