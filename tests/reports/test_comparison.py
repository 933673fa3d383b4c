"""Claims by seed: what is compared at the locked setting and at each arm's best, and how a family is judged."""

import math

import numpy as np
import pytest

from research.reports.comparison import Claim, Errors, Family, mean_over, power
from research.scaling.paired import paired_difference
from research.sweeps.results import Result

RATES = {"": 0.1, "learning_rate=0.05": 0.05, "learning_rate=0.2": 0.2}


def run(setting: str, seed: int, error: float | None, arm: str = "a") -> Result:
    """A run at a setting of the grid; without an error it failed."""
    return Result(
        id=f"{arm}{setting}{seed}",
        arm=arm,
        budget=",".join(filter(None, ["depth8", setting])),
        seed=seed,
        path="runs/x",
        status="failed" if error is None else "finished",
        config={"optimizer": {"learning_rate": RATES[setting], "weight_decay": 0.001}},
        summary={} if error is None else {"eval/top1": 1 - error},
    )


def errors(table: dict[str, list[float | None]]) -> Errors:
    return Errors([run(s, seed, e) for s, row in table.items() for seed, e in enumerate(row)], "eval/top1")


def test_all_seeds_have_the_setting_that_is_best_on_average() -> None:
    """Seed 0 is best at 0.2, the others at the locked setting: the mean decides."""
    found = errors({"": [0.5, 0.3, 0.3], "learning_rate=0.05": [0.6, 0.6, 0.6], "learning_rate=0.2": [0.0, 0.4, 0.4]})
    best = found.best("a", "depth8")
    assert best.setting == "learning_rate=0.2"  # means: 0.367, 0.6, 0.267
    assert best.at_edge
    assert best.errors == pytest.approx({0: 0.0, 1: 0.4, 2: 0.4})
    assert found.locked("a", "depth8") == pytest.approx({0: 0.5, 1: 0.3, 2: 0.3})
    assert found.tuned


def test_a_setting_that_diverged_is_not_chosen() -> None:
    found = errors({"": [0.5, 0.5, 0.5], "learning_rate=0.2": [0.1, None, 0.1]}).best("a", "depth8")
    assert (found.setting, found.errors) == ("", pytest.approx({0: 0.5, 1: 0.5, 2: 0.5}))


SIMULATED = 1000
SPREAD = 0.01  # of errors over seeds


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("first", "second", "most"),
    [
        ((0, 0, 0), (0, 0, 0), 0.025),
        ((0, 0.5, 1), (0, 0.5, 1), 0.025),
        ((0, 0, 0), (0, 9, 9), 0.06),  # the first may take the luckiest of three, the second has no choice
    ],
    ids=["settings do not matter", "settings matter a little", "one arm's matter"],
)
def test_tuning_calls_equal_arms_better_seldom(
    seeds: int, first: tuple[float, ...], second: tuple[float, ...], most: float
) -> None:
    """Two arms that are equally good at their best; `first`, `second`: how much worse each setting is, in spreads."""
    random, better = np.random.default_rng(0), 0
    for _ in range(SIMULATED):
        shared = random.standard_normal(seeds)  # of a pair: the same data order and initial weights
        found = {}
        for arm, offsets in (("a", first), ("b", second)):
            noise = random.standard_normal((len(RATES), seeds))
            values = 0.5 + SPREAD * (shared + noise + np.array(offsets)[:, None])
            of_arm = [run(s, seed, float(values[i, seed]), arm) for i, s in enumerate(RATES) for seed in range(seeds)]
            found[arm] = Errors(of_arm, "eval/top1").best(arm, "depth8").errors
        answer = paired_difference(found["a"], found["b"]).verdict(higher_is_better=False)
        better += answer == "better"
    assert better / SIMULATED <= most + 3 * math.sqrt(most * (1 - most) / SIMULATED)


def test_the_locked_setting_alone_is_its_own_best() -> None:
    found = errors({"": [0.5, 0.25]})
    assert found.best("a", "depth8").errors == found.locked("a", "depth8") == {0: 0.5, 1: 0.75 - 0.5}
    assert not found.best("a", "depth8").at_edge
    assert not found.tuned
    assert found.locked("b", "depth8") == found.best("b", "depth8").errors == {}


def test_an_optimum_inside_the_grid_is_not_at_its_edge() -> None:
    found = errors({"": [0.1, 0.1], "learning_rate=0.05": [0.2, 0.2], "learning_rate=0.2": [0.2, 0.2]})
    assert (found.best("a", "depth8").setting, found.best("a", "depth8").at_edge) == ("", False)


def claim(text: str, shift: float, *, first_screen: bool = True) -> Claim:
    second = {seed: 0.2 + 0.01 * seed for seed in range(5)}
    first = {seed: value + shift + 0.002 * (seed % 2) for seed, value in second.items()}
    return Claim(text, "test error", first, second, planned=6, first_screen=first_screen)


def test_more_claims_must_each_show_more() -> None:
    alone = Family([claim("x", 0.002)])
    assert [v.verdict for v in alone.verdicts()] == ["worse"]
    among = Family([claim("x", 0.002), *(claim(f"y{n}", 0.0) for n in range(20))])
    assert among.verdicts()[0].verdict == "cannot tell"
    assert "5 of 6 pairs of seeds" in among.verdicts()[0].detail


def test_the_table_has_every_claim_and_the_first_screen_its_own() -> None:
    family = Family([claim("x", -0.05), claim("y", 0.05, first_screen=False), Claim("z", "test error", {}, {}, 6)])
    assert [v.claim for v in family.verdicts(" (here)")] == ["x (here): test error", "z (here): test error"]
    rows = family.table().frame.to_dicts()
    assert [row["verdict"] for row in rows] == ["better", "worse", "cannot tell"]
    assert [row["pairs"] for row in rows] == ["5/6", "5/6", "0/6"]
    assert rows[0]["detectable"] < 0.05
    assert rows[2]["detectable"] is None
    assert "The 3 claims are one family" in family.table().note


def test_what_a_design_can_tell_is_said_before_it_runs() -> None:
    """One claim of six pairs: 1.43 standard deviations, as power tables for a paired t-test have it (n = 6, 80%)."""
    one = power([Family([Claim("x", "test error", {}, {}, 6)])], 0.01)
    assert one == (
        "6 pairs of seeds, 1 claim judged together: found four times in five is a difference of 1.4 standard "
        "deviations of a pair's, 1.4 percentage points at the spread of earlier runs"
    )
    assert "10 claims judged together" in power([Family([Claim("x", "test error", {}, {}, 6)] * 10)], None)
    assert power([], None) == power([Family([])], 0.01) == ""


def test_means_over_cells_need_every_cell() -> None:
    assert mean_over([{0: 1.0, 1: 2.0}, {0: 3.0, 2: 1.0}]) == {0: 2.0}
    assert mean_over([]) == {}
    assert math.isclose(mean_over([{0: 0.1}, {0: 0.2}, {0: 0.3}])[0], 0.2)
