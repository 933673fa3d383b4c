"""The tuning grid that every arm shares: its settings, their names, and the runs they make."""

import pytest

from research.config import Config, replace
from research.errors import UserError
from research.sweeps import design, plan

BASE = replace(
    Config(), **{"optimizer.learning_rate": 0.1, "optimizer.weight_decay": 1e-3, "probes.names": ("gradient_norms",)}
)
GRID = {"optimizer.learning_rate": (0.05, 0.1, 0.2), "optimizer.weight_decay": (1e-3, 1e-4)}


def test_the_locked_setting_comes_first_and_has_no_name():
    found = design.settings(BASE, GRID)
    assert next(iter(found)) == ""
    assert found[""] == BASE
    assert sorted(found) == sorted(
        ["", "learning_rate=0.05", "learning_rate=0.2", "weight_decay=0.0001"]
        + [f"learning_rate={rate},weight_decay=0.0001" for rate in (0.05, 0.2)]
    )
    assert found["learning_rate=0.2,weight_decay=0.0001"].optimizer.learning_rate == 0.2
    assert design.settings(BASE, {}) == {"": BASE}


def test_every_setting_has_the_same_seeds_and_only_the_locked_one_is_probed():
    runs = design.planned("plain", "depth8", BASE, seeds=range(3), grid=GRID, target_macs=5)
    plan.check(runs)
    assert len(runs) == 18
    assert {run.budget.partition(",")[0] for run in runs} == {"depth8"}
    assert {run.target_macs for run in runs} == {5}
    assert {bool(run.config.probes.names) for run in runs if run.budget == "depth8"} == {True}
    assert {bool(run.config.probes.names) for run in runs if run.budget != "depth8"} == {False}


@pytest.mark.parametrize("values", [(0.05, 0.2), (0.1, 0.1)])
def test_a_grid_without_the_locked_value_or_with_one_twice_is_refused(values):
    with pytest.raises(UserError, match=r"expected 0\.1 and others, each once"):
        design.settings(BASE, {"optimizer.learning_rate": values})
