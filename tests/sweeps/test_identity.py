"""What changes a run's identity, and what does not: on a copy of the tree, and on a hand-written project."""

import ast
import shutil
from pathlib import Path

import pytest

import experiments
from research.config import Config, replace
from research.errors import UserError
from research.sweeps import identity
from research.values import Duration

CONFIG = replace(Config(), **{"model.name": "resnet20"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project's code."""
    shutil.copytree(identity.PROJECT / "research", tmp_path / "research", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digest(tree: Path, config: Config = CONFIG) -> str:
    return identity.files_digest(identity.code_files(config, root=tree), root=tree)


def test_the_place_of_the_project_does_not_matter(tree: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(tree, tmp_path / "else" / "where", ignore=shutil.ignore_patterns("else"))
    assert digest(tree) == digest(elsewhere)


def test_comments_docstrings_and_blank_lines_do_not_matter(tree: Path) -> None:
    before = digest(tree)
    for file in identity.code_files(CONFIG, root=tree):
        code = file.read_text()
        later = code.replace("\n\n\n", "\n\n\n\n# Another remark.\n\n")
        assert ast.parse(later)
        file.write_text(f'"""Other words."""\n\n# A remark.\n{later}\n"""Words at the end."""\n')
    assert digest(tree) == before


def test_a_number_changed_in_any_imported_file_matters(tree: Path) -> None:
    seen = {digest(tree)}
    files = identity.code_files(CONFIG, root=tree)
    for number, file in enumerate(files, start=1):
        file.write_text(f"{file.read_text()}\nADDED = 1\n")
        seen.add(digest(tree))
        assert len(seen) == 2 * number, file
        file.write_text(file.read_text().replace("ADDED = 1", "ADDED = 2"))
        seen.add(digest(tree))
        assert len(seen) == 2 * number + 1, file


def test_another_familys_file_does_not_matter(tree: Path) -> None:
    used = identity.code_files(CONFIG, root=tree)
    families = [f for f in (tree / "research/models").glob("*.py") if f.name != "__init__.py"]
    others = [f for f in families if f not in used]
    assert others
    assert len(families) > len(others), "the run's own family is among its files"
    before = digest(tree)
    for file in others:
        file.write_text(f"{file.read_text()}\nADDED = 1\n")
    (tree / "research/models/of_tomorrow.py").write_text("VARIANTS = {}\n")
    assert digest(tree) == before


def test_sweeps_reports_and_recipes_are_not_part_of_a_run() -> None:
    names = {f.relative_to(identity.PROJECT).as_posix() for f in identity.code_files(CONFIG)}
    assert "research/training/loop.py" in names
    assert "research/metrics/classification.py" in names, "found by name where the package reads its folder"
    outside = ("research/reports", "research/sweeps/study.py", "research/sweeps/plan.py", "configs", "experiments")
    assert not [name for name in names if name.startswith(outside)]


def test_a_depth_beyond_the_table_belongs_to_its_family() -> None:
    known, computed = (replace(CONFIG, **{"model.name": name}) for name in ("resnet20", "resnet26"))
    assert identity.code_files(known) == identity.code_files(computed)


def test_an_unknown_model_is_refused_with_its_neighbour() -> None:
    with pytest.raises(UserError, match="resnet20"):
        identity.code_files(replace(CONFIG, **{"model.name": "resnett20"}))


MINIATURE = {
    "research/__init__.py": "",
    "research/training/__init__.py": "",
    "research/training/loop.py": "import research.a.b as short\nfrom research import folder\nfolder.wanted(short)\n",
    "research/a/__init__.py": "from . import inside\n",
    "research/a/inside.py": "def f():\n    from ..late import g\n    return g\n",
    "research/a/b.py": "import numpy as np\nfrom research.package import module as m, value\n",
    "research/late.py": "g = 1\n",
    "research/package/__init__.py": "value = 1\n",
    "research/package/module.py": "",
    "research/package/not_imported.py": "value = 2\n",
    "research/folder/__init__.py": "def __getattr__(name): ...\n",
    "research/folder/one.py": "def wanted(x): ...\n",
    "research/folder/two.py": "def other(x): ...\n",
    "research/models/__init__.py": "",
    "research/models/resnet_cifar.py": "",
    "research/models/resnet.py": "",
    "elsewhere.py": "",
}


def test_every_form_of_import_is_followed_and_nothing_else(tmp_path: Path) -> None:
    for name, code in MINIATURE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    found = {file.relative_to(tmp_path).as_posix() for file in identity.code_files(CONFIG, root=tmp_path)}
    unused = {"research/package/not_imported.py", "research/folder/two.py", "research/models/resnet.py", "elsewhere.py"}
    assert found == set(MINIATURE) - unused


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1", "x = 1  # words", True),
        ("def f():\n    'words'\n    return 1", "def f():\n    'others'\n    return (1)", True),
        ("class A:\n    x = 1\n    'of x'", "class A:\n    x = 1", True),
        ("x = 1", "x = 1.0", False),
        ("x = 1", "x = True", False),
        ("x = None", "x = 0", False),
        ("x = 'words'", "x = 'others'", False),
        ("f(a, b)", "f(a, b=b)", False),
        ("x = {**a, 1: 2}", "x = {1: 2, **a}", False),
        ("x = a[1:]", "x = a[:1]", False),
    ],
)
def test_what_two_pieces_of_code_share(tmp_path: Path, one: str, other: str, same: bool) -> None:
    digests = []
    for code in (one, other):
        (tmp_path / "file.py").write_text(code)
        digests.append(identity.files_digest([tmp_path / "file.py"], root=tmp_path))
    assert (digests[0] == digests[1]) == same


def test_the_users_own_files_count(tmp_path: Path) -> None:
    def written(folder: str, number: int) -> Config:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "layers.py").write_text(f"SIZE = {number}\n")
        (tmp_path / folder / "mine.py").write_text("def Net():\n    import layers\n    return layers.SIZE\n")
        return replace(Config(), **{"model.name": f"{tmp_path / folder / 'mine.py'}:Net"})

    here = digest(identity.PROJECT, written("here", 1))
    assert here == digest(identity.PROJECT, written("there", 1)), "wherever they are"
    assert here != digest(identity.PROJECT, written("here", 2)), "with what they import from beside them"
    assert here != digest(identity.PROJECT, Config())


def test_cosmetic_fields_do_not_change_the_identity_and_others_do() -> None:
    base = identity.run_identity(CONFIG)
    assert len(base.id) == 16
    assert int(base.id, 16) >= 0
    for key, value in {"notes": "words", "budget.log_every": Duration(1), "checkpointing.keep_last": 5}.items():
        assert identity.run_identity(replace(CONFIG, **{key: value})) == base, key
    for key, value in {"seed": 1, "optimizer.learning_rate": 0.2, "data.name": "synthetic", "model.width": 4}.items():
        assert identity.run_identity(replace(CONFIG, **{key: value})).id != base.id, key


def test_each_of_the_three_parts_counts() -> None:
    ids = {identity.identity(*parts).id for parts in ("abc", "xbc", "axc", "abx", "bac")}
    assert len(ids) == 5


@pytest.mark.parametrize("name", experiments.names())
def test_every_config_of_a_smoke_study_has_its_own_identity(name: str) -> None:
    runs = experiments.load(name).runs("smoke")
    configs = {run.config for run in runs}
    assert len({identity.run_identity(config).id for config in configs}) == len(configs)
