"""What a report says of growth, from results whose truth is known: laws, fronts, ranks, exponents, seconds."""

import math

import polars as pl
import pytest

from research.reports import arms, growth
from research.reports.document import Figure, Table
from research.scaling import rules
from research.sweeps.results import Result

SCALES = (1, 2, 4, 8)


def result(arm: str, times: int, seed: int, error: float, **more: float) -> Result:
    """A finished run of a network that has grown `times`, whose parameters are as its rule has them."""
    rule = rules.RULES.get(arm, rules.RULES["width"])
    counts = {"macs": 1000 * times, "params": round(1e6 * times**rule.params)}
    counts["activations"] = round(1e6 * times**rule.activations)
    return Result(
        id=f"{arm}{times}{seed}",
        arm=arm,
        budget=f"x{times}",
        seed=seed,
        path="nowhere",
        status="finished",
        summary={"eval/top1": 1 - error, "eval_train/top1": 1 - error, **counts, **more},
        timing={
            "step_seconds": 1e-3 + 1e-9 * 32 * counts["activations"],
            "compile_seconds": 1.0,
            "memory_bytes": 5,
            "batch_size": 32,
            **counts,
        },
    )


def times(run: Result) -> int:
    return int(run.budget.removeprefix("x"))


def law(arm: str) -> tuple[float, float, float]:
    return {"width": (0.2, 0.5, 0.05), "depth": (0.2, 1.0, 0.08)}[arm]


RUNS = [
    result(arm, scale, seed, law(arm)[0] * scale ** -law(arm)[1] + law(arm)[2] + 1e-4 * (seed - 1))
    for arm in ("width", "depth")
    for scale in SCALES
    for seed in range(3)
]


def the_table(items: list) -> pl.DataFrame:
    (table,) = [item for item in items if isinstance(item, Table)]
    return table.frame


def test_the_law_of_each_arm_is_found_and_foretells_the_largest() -> None:
    items = growth.laws(RUNS, times, arms.TEST)
    frame = the_table(items)
    for row in frame.iter_rows(named=True):
        for letter, value in zip("abc", law(row["arm"]), strict=True):
            assert row[letter] == pytest.approx(value, rel=0.03)
            assert row[f"{letter} from"] <= row[letter] <= row[f"{letter} to"]
        assert (row["held out"], row["agrees"]) == ("8x", True)
        assert row["lack of fit, p"] > 0.5
    (figure,) = [item for item in items if isinstance(item, Figure)]
    assert figure.chart is not None
    assert growth.laws([r for r in RUNS if times(r) < 4], times, arms.TEST) == []


def test_ranks_are_those_of_the_mean_errors() -> None:
    (table,) = growth.ranks(RUNS, times, arms.TEST)
    ranks = {row["arm"]: [row[f"rank at {scale}x"] for scale in SCALES] for row in table.frame.iter_rows(named=True)}
    # depth: 0.28, 0.18, 0.13, 0.105; width: 0.25, 0.1914, 0.15, 0.1207.
    assert ranks == {"depth": [2, 1, 1, 1], "width": [1, 2, 2, 2]}
    assert "2x and 4x +1.00" in table.note
    assert "1x and 2x -1.00" in table.note
    assert growth.ranks([], times, arms.TEST) == []


def test_who_is_on_the_front_of_each_cost() -> None:
    frame = the_table(growth.cheapest(RUNS, arms.TEST))
    on = {key: {(r["arm"], r["budget"]) for r in frame.iter_rows(named=True) if r[key]} for key in frame.columns[3:]}
    # By multiply-adds the better arm of each scale; by activations (s^0.5 against s) width alone until it ends.
    assert on["multiply-adds"] == {("width", "x1"), ("depth", "x2"), ("depth", "x4"), ("depth", "x8")}
    assert {cell for cell in on["activations"] if cell[0] == "width"} == {("width", f"x{s}") for s in SCALES}
    assert set(frame.columns[3:]) == {"multiply-adds", "parameters", "activations", "step seconds"}


def test_exponents_are_the_rules_where_counts_are() -> None:
    (table,) = growth.exponents(RUNS, times, rules.RULES.get)
    for row in table.frame.iter_rows(named=True):
        for key in ("params", "activations"):
            assert row[key] == pytest.approx(row[f"{key} by rule"], abs=1e-3)
            assert row[f"{key} by rule"] == getattr(rules.RULES[row["arm"]], key)


def test_seconds_that_follow_activations_are_foretold_by_them() -> None:
    section = arms.clock(RUNS, lambda arm, budget: ("width", budget), lambda arm: arm)
    steps, foretold = (item for item in section.items if isinstance(item, Table))
    rows = {row["seconds from"]: row for row in foretold.frame.iter_rows(named=True)}
    assert rows["activations"]["median error, held out"] == pytest.approx(0, abs=1e-6)
    assert rows["activations"]["rank correlation"] == pytest.approx(1)
    assert rows["multiply-adds"]["median error, held out"] > 0.05
    deep = steps.frame.filter(pl.col("arm") == "depth", pl.col("budget") == "x4").row(0, named=True)
    # Activations 4 against 2 million, 32 images at a nanosecond each, and a millisecond.
    assert deep["step_seconds ratio"] == pytest.approx((1e-3 + 0.128) / (1e-3 + 0.064))
    assert deep["macs ratio"] == 1
    untimed = arms.clock([Result("i", "a", "b", 0, "", "waiting")], lambda a, b: (a, b), lambda a: a)
    assert "launch.py bench --workdir" in untimed.text


def test_a_failed_or_diverged_run_is_in_no_law() -> None:
    wild = Result("w", "width", "x8", 9, "", "failed", summary={"eval/top1": math.nan})
    assert the_table(growth.laws([*RUNS, wild], times, arms.TEST)).equals(
        the_table(growth.laws(RUNS, times, arms.TEST))
    )
