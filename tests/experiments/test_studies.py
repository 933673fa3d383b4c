"""Laws of every study at every scale: what makes its comparisons fair, before anything is trained."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import experiments
from research.config import differences
from research.errors import UserError
from research.reports.document import Document
from research.scaling import complexity, match
from research.sweeps import design, plan, predict
from research.sweeps.plan import Planned
from research.sweeps.results import Result

# Tests of one plan run in one process, which makes it once: planning a full scale takes a minute.
EVERY = [
    pytest.param(name, scale, marks=pytest.mark.xdist_group(f"{name}_{scale}"))
    for name in experiments.names()
    for scale in experiments.load(name).SCALES
]


def waiting(planned: Planned) -> Result:
    return Result(planned.label, planned.arm, planned.budget, planned.seed, "nowhere", "waiting")


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_labels_are_unique_and_seeds_are_those_of_the_configs(name: str, scale: str) -> None:
    plan.check(experiments.load(name).runs(scale))


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_seeds_are_paired_across_arms(name: str, scale: str) -> None:
    seeds: dict[str, dict[str, list[int]]] = {}
    for p in experiments.load(name).runs(scale):
        seeds.setdefault(p.budget, {}).setdefault(p.arm, []).append(p.seed)
    for budget, by_arm in seeds.items():
        assert len({tuple(sorted(found)) for found in by_arm.values()}) == 1, budget
    if scale != "smoke":
        assert all(len(found) >= 3 for by_arm in seeds.values() for found in by_arm.values())


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_arms_share_one_recipe_but_for_what_is_studied(name: str, scale: str) -> None:
    study = experiments.load(name)
    first, *others = study.runs(scale)
    for other in others:
        assert set(differences(first.config, other.config)) <= {"seed", *study.VARIES}, other.label


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_an_arm_with_a_target_is_within_a_percent_of_it_or_says_why(name: str, scale: str) -> None:
    """By the whole counter, layer by layer: what a dry run shows."""
    planned = [p for p in experiments.load(name).runs(scale) if p.target_macs is not None]
    costs = {(row["arm"], row["budget"]): row["macs"] for row in predict.rows(_first(planned))}
    for p in _first(planned):
        off = costs[p.arm, p.budget] / p.target_macs - 1
        assert (abs(off) <= match.TOLERANCE) != bool(p.reason), p.label
        assert not p.reason or p.reason.startswith(f"{off:+.1%} off the target: ")


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_what_is_kept_of_a_network_is_what_it_costs(name: str, scale: str) -> None:
    """Of a few of the smaller networks (the largest take a minute) of every plan that has kept counts, layer by layer.

    `tools/solve_studies.py` makes them.
    """
    file = Path(str(experiments.load(name).__file__)).with_suffix(design.SOLVED)
    kept = json.loads(file.read_text())["counts"] if file.exists() else {}
    configs = {predict.network_digest(p.config): p.config for p in experiments.load(name).runs(scale)}
    assert not kept or configs.keys() <= kept.keys()
    by_cost = sorted(configs.keys() & kept.keys(), key=lambda digest: kept[digest]["macs"])
    for digest in by_cost[: len(by_cost) // 3 + 1 : max(1, len(by_cost) // 9)]:
        data = predict.known_data(configs[digest])
        cost = complexity.count(predict.network(configs[digest], data), (1, *data.shape))
        assert kept[digest] == {"macs": cost.macs, "params": cost.params, "activations": cost.activations}


def _first(planned: Sequence[Planned]) -> list[Planned]:
    """One run of every arm and budget: its network is that of the others."""
    return list({(p.arm, p.budget.partition(",")[0]): p for p in reversed(planned)}.values())


@pytest.mark.parametrize("name", experiments.names())
def test_a_study_opens_with_its_question_and_refuses_other_scales(name: str) -> None:
    study = experiments.load(name)
    assert experiments.question(study).endswith("?")
    assert "smoke" in study.SCALES
    with pytest.raises(UserError, match="smoke"):
        study.runs("smok")


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_a_report_can_be_had_before_anything_has_run(name: str, scale: str) -> None:
    study = experiments.load(name)
    document = study.report([waiting(p) for p in study.runs(scale)])
    assert isinstance(document, Document)
    assert document.question == experiments.question(study)
    assert {verdict.verdict for verdict in document.verdicts} == {"cannot tell"}


def test_studies_are_found_by_name_or_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nearest: residual_vs_plain"):
        experiments.load("residual_vs_plane")
    own = tmp_path / "mine.py"
    own.write_text('"""Why?"""\nSCALES = ("smoke",)\ndef runs(scale): return []\ndef report(results): return None\n')
    assert experiments.question(experiments.load(str(own))) == "Why?"
    (tmp_path / "half.py").write_text("SCALES = ()\n")
    with pytest.raises(UserError, match="no runs, report"):
        experiments.load(str(tmp_path / "half.py"))


def test_loading_the_studies_imports_nothing_slow() -> None:
    code = (
        "import sys, experiments\n"
        "[experiments.load(name) for name in experiments.names()]\n"
        "print(sorted({'jax', 'flax', 'polars', 'altair', 'scipy'} & set(sys.modules)))\n"
    )
    root = Path(experiments.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
