"""Residual against plain: equal cost at every depth, and what the report concludes from known numbers."""

import functools
from typing import Any

import polars as pl
import pytest

from experiments import residual_vs_plain as study
from research import config
from research.reports.document import Document, Table
from research.sweeps import predict
from research.sweeps.results import Result


@functools.cache
def rows(scale: str) -> list[dict[str, Any]]:
    return predict.rows(study.runs(scale))


@pytest.mark.parametrize("scale", study.SCALES)
def test_arms_of_equal_cost_have_it(scale: str) -> None:
    costs: dict[str, set[tuple[int, int]]] = {}
    arms: dict[str, set[str]] = {}
    for row in rows(scale):
        budget = row["budget"].partition(",")[0]
        arms.setdefault(budget, set()).add(row["arm"])
        if row["arm"] in study.EQUAL:
            costs.setdefault(budget, set()).add((row["params"], row["macs"]))
    assert len(costs) >= 2
    shallowest, *deeper = arms.values()
    assert shallowest == set(study.SETTINGS[scale].arms)
    assert all(found == shallowest - set(study.SHALLOW) for found in deeper)
    assert all(len(found) == 1 for found in costs.values())


def test_the_full_scale_is_the_papers() -> None:
    # He et al. 2015, table 6: parameters in millions; multiply-adds as recomputed for option A.
    plain = [row for row in rows("full") if (row["arm"], row["seed"]) == ("plain", 0) and "," not in row["budget"]]
    assert {row["budget"]: (row["params"], row["macs"]) for row in plain} == {
        "depth20": (269_722, 40_551_040),
        "depth32": (464_154, 68_862_592),
        "depth44": (658_586, 97_174_144),
        "depth56": (853_018, 125_485_696),
        "depth110": (1_727_962, 252_887_680),
    }


def result(arm: str, depth: int, seed: int, error: float, status: str = "finished", platform: str = "cpu") -> Result:
    """A finished run with this training error, and a test error twice as large."""
    return Result(
        id=f"{arm}{depth}{seed}",
        arm=arm,
        budget=f"depth{depth}",
        seed=seed,
        path="runs/x",
        status=status,
        config=config.to_dict(config.Config()),
        environment={"device": {"platform": platform, "device_kind": platform, "devices": 1}},
        summary={
            "eval_train/top1": 1 - error,
            "eval/top1": 1 - 2 * error,
            "params": 5,
            "macs": 6,
            "train_seconds": 1.5,
        },
    )


def degraded(seeds: int = 3, platform: str = "cpu") -> list[Result]:
    """Depth doubles the plain network's error and roughly halves the residual one's; seeds hardly differ."""
    means = {("plain", 8): 0.04, ("plain", 20): 0.08, ("residual_a", 8): 0.03, ("residual_a", 20): 0.014}
    return [
        result(arm, depth, seed, mean * (1 + 0.01 * seed), platform=platform)
        for (arm, depth), mean in means.items()
        for seed in range(seeds)
    ]


def verdicts(document: Document) -> dict[str, str]:
    return {verdict.claim: verdict.verdict for verdict in document.verdicts}


def tables(document: Document) -> dict[str, pl.DataFrame]:
    return {i.title: i.frame for section in document.sections for i in section.items if isinstance(i, Table)}


def test_degradation_is_found_where_it_is() -> None:
    document = study.report(degraded())
    assert verdicts(document) == {
        "plain, depth 20 against 8: training error": "worse",
        "residual_a, depth 20 against 8: training error": "better",
        "residual_a against plain, depth 8: training error": "better",
        "residual_a against plain, depth 20: training error": "better",
        "plain, depth 20 against 8: test error": "worse",
        "residual_a, depth 20 against 8: test error": "better",
    }
    # Differences at depth 20 are 0.014 - 0.08 = -0.066 times 1, 1.01, 1.02.
    (detail,) = (v.detail for v in document.verdicts if v.claim == "residual_a against plain, depth 20: training error")
    # The deviation is 0.066 x 0.01: t = 0.06666 x sqrt(3) / 0.00066 = 174.9, two-sided p 3.27e-5, four such claims.
    expected = "-6.67 percentage points, 95% interval -6.83 to -6.50; p 0.00013 (Holm); 3 of 3 pairs of seeds"
    assert detail == expected
    arms = tables(document)["Arms"].filter(pl.col("arm") == "plain", pl.col("depth") == 20).row(0, named=True)
    assert arms["training error"]["mean"] == pytest.approx(0.0808)
    assert arms["test error"]["mean"] == pytest.approx(0.1616)
    assert (arms["params"], arms["macs"], arms["finished"]) == (5, 6, "3/3")


def test_unequal_cost_is_said() -> None:
    section, *_ = study.report(degraded()).sections
    assert "Equal parameters and multiply-adds" in section.items[2].note
    results = degraded()
    results[0].summary["params"] = 50
    section, *_ = study.report(results).sections
    assert "NOT at equal cost" in section.items[2].note


def test_one_seed_tells_nothing() -> None:
    assert set(verdicts(study.report(degraded(seeds=1))).values()) == {"cannot tell"}


def test_equal_errors_tell_nothing() -> None:
    same = [result(arm, depth, seed, 0.0) for arm in study.ARMS for depth in (8, 20) for seed in range(3)]
    assert set(verdicts(study.report(same)).values()) == {"cannot tell"}


def test_failed_runs_are_counted_and_break_their_pair() -> None:
    results = [r for r in degraded() if r.label != "plain/depth20/1"]
    results.append(result("plain", 20, 1, 0.5, status="failed"))
    document = study.report(results)
    assert "11 finished, 1 failed" in document.sections[0].text
    (detail,) = (v.detail for v in document.verdicts if v.claim == "residual_a against plain, depth 20: training error")
    assert detail.endswith("2 of 3 pairs of seeds")
    arms = tables(document)["Arms"].filter(pl.col("arm") == "plain", pl.col("depth") == 20).row(0, named=True)
    assert (arms["finished"], arms["failed"]) == ("2/3", 1)


def test_platforms_are_told_apart_and_never_pooled() -> None:
    document = study.report([*degraded(seeds=2), *degraded(seeds=3, platform="gpu")])
    assert [section.title for section in document.sections if "Error" in section.title] == [
        "Error against depth (cpu, float32, matmul default)",
        "Error against depth (gpu, float32, matmul default)",
    ]
    details = [v.detail for v in document.verdicts if v.claim.startswith("residual_a against plain, depth 8")]
    assert [detail.rpartition("; ")[2] for detail in details] == ["2 of 2 pairs of seeds", "3 of 3 pairs of seeds"]


def test_charts_have_a_point_per_run_and_can_be_drawn() -> None:
    document = study.report(degraded())
    charts = [item.chart for item in document.sections[0].items if not isinstance(item, Table)]
    assert len(charts) == 2
    for chart in charts:
        assert chart is not None
        points = [row for row in chart.to_dict()["data"]["values"] if row["kind"] == "run"]
        assert len(points) == 12
