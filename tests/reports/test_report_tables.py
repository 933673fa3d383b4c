"""Frames, wording, figures' data and sweeps, on numbers worked out by hand."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from research.config import Config, replace
from research.reports import cells, drawing, figures, sweep, tables, wording
from research.reports.document import Table
from research.sweeps import results, store
from tests.reports import folders


@pytest.mark.parametrize(
    ("key", "item", "text"),
    [
        ("eval/top1", 0.97133, "0.9713"),
        ("params", 272474, "272,474"),
        ("params", 272474.0, "272,474"),
        ("train_seconds", 4.318, "4.32"),
        ("train_seconds", 43.18, "43.2"),
        ("train_seconds", 4318.2, "4,318"),
        ("eval/loss", 0.23, "0.2300"),
        ("optimizer.learning_rate", 0.003, "0.003"),
        ("optimizer.learning_rate", 1e-08, "1e-08"),
        ("eval/top1", None, wording.MISSING),
        ("eval/top1", float("nan"), "nan"),
        ("data.flip", True, "yes"),
        ("schedule.boundaries", [0.5, 0.75], "[0.5, 0.75]"),
    ],
)
def test_values_are_written_with_the_digits_they_deserve(key: str, item: object, text: str) -> None:
    assert wording.value(key, item) == text


def test_a_spread_has_the_decimals_of_its_mean() -> None:
    assert wording.spread("eval/loss", 0.1866, 0.016217) == "0.1866 ± 0.0162"
    assert wording.spread("train_seconds", 1234.4, 11.6) == "1,234 ± 12"
    assert wording.spread("eval/top1", 0.5, None) == "0.5000"


def test_names_sort_by_the_numbers_in_them() -> None:
    assert wording.in_order(["depth110", "depth8", "depth20", "depth8"]) == ["depth8", "depth20", "depth110"]


def test_a_frame_takes_mixed_columns() -> None:
    frame = tables.frame(
        [{"a": 1, "b": "x"}, {"a": 2.5, "b": 3, "c": {"mean": 1.0, "deviation": None}}, {"c": 7}], ["b"]
    )
    assert frame.columns == ["b", "a", "c"]
    assert frame["a"].to_list() == [1.0, 2.5, None]
    assert frame["b"].to_list() == ['"x"', "3", None]
    assert frame["c"].to_list() == [None, {"mean": 1.0, "deviation": None}, {"mean": 7.0, "deviation": None}]
    assert tables.frame([], ["a", "b"]).shape == (0, 2)


def test_an_arm_is_the_mean_and_deviation_of_its_finished_seeds(tmp_path: Path) -> None:
    study = folders.write_study(tmp_path, arms=("plain",), depths=(8,), seeds=4, status={"plain/depth8/3": "failed"})[0]
    for result, top1 in zip(study.results, (0.90, 0.92, 0.97, 0.10), strict=True):
        result.summary["eval/top1"] = top1
    row = tables.arm_frame(study.results, ["eval/top1"], each="eval/top1").row(0, named=True)
    assert row["runs"] == "3/4"
    assert row["eval/top1"]["mean"] == pytest.approx(0.93, abs=1e-12)  # exact up to the rounding of decimals
    assert row["eval/top1"]["deviation"] == pytest.approx(0.0013**0.5, abs=1e-12)  # (9 + 1 + 16) e-4 / 2
    assert [cell["value"] for cell in row["each seed"]] == [0.90, 0.92, 0.97]


def test_cells_link_numbers_to_their_runs_and_keep_their_digits() -> None:
    frame = pl.DataFrame({"run": ["ab"], "eval/top1": [{"value": 1 / 3, "run": "ab"}], "empty": [None]})
    grid = cells.grid(Table("t", frame), {"ab": "runs/ab/summary.json"})
    assert grid.headings == ("run", "evaluation top-1 accuracy")
    assert grid.rows[0][0].parts == (cells.Part("ab", "runs/ab/summary.json"),)
    assert grid.rows[0][1].parts == (cells.Part("0.3333", "runs/ab/summary.json", repr(1 / 3)),)
    assert grid.rows[0][1].sort == 1 / 3


def test_curves_are_thinned_alike_and_keep_their_ends(tmp_path: Path) -> None:
    study = folders.write_study(tmp_path, arms=("plain",), depths=(8,), seeds=2)[0]
    whole = tables.curve_frame(study.results, "train/loss")
    recorded = [row for r in study.results for row in r.metrics if "train/loss" in row]
    assert whole["value"].to_list() == [row["train/loss"] for row in recorded]
    thin = tables.curve_frame(study.results, "train/loss", most=20)
    by_run = thin.partition_by("run")
    assert 20 <= thin.height <= 24
    assert by_run[0]["step"].to_list() == by_run[1]["step"].to_list()
    assert by_run[0]["step"].max() == whole["step"].max()


def test_what_varies_and_what_is_cosmetic() -> None:
    assert tables.varying([{"a": 1, "b": 2}, {"a": 1.0, "b": 2}, {"b": 2}]) == ["a"]
    assert {"notes", "budget.log_every", "checkpointing.every"} <= tables.cosmetic_keys()
    assert "budget.train" not in tables.cosmetic_keys()


def test_the_interval_of_a_mean() -> None:
    # t(0.975; 2 degrees) = 4.302653 (any table), deviation 1, root of 3
    assert figures.interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / 3**0.5, rel=1e-6)  # 7 digits of the table


def test_a_chart_holds_every_run_and_the_means() -> None:
    frame = pl.DataFrame({"depth": [8, 8, 8, 20], "top1": [0.1, 0.2, 0.3, 0.5], "arm": ["a"] * 4, "run": list("pqrs")})
    chart = figures.metric_against(frame, "depth", "top1", "arm")
    assert chart is not None
    rows = drawing.specification(chart)["data"]["values"]
    assert [(r["x"], r["y"]) for r in rows if r["kind"] == "run"] == [(8, 0.1), (8, 0.2), (8, 0.3), (20, 0.5)]
    means = [r for r in rows if r["kind"] == "mean"]
    assert [(r["x"], r["runs"], "low" in r) for r in means] == [(8, 3, True), (20, 1, False)]
    assert means[0]["y"] == pytest.approx(0.2, abs=1e-12)  # rounding of decimals


def test_a_mean_curve_stops_where_a_seed_stops() -> None:
    frame = pl.DataFrame(
        {
            "epoch": [1.0, 2.0, 3.0, 1.0, 2.0],
            "value": [0.0, 2.0, 4.0, 1.0, 3.0],
            "arm": ["a"] * 5,
            "budget": ["b"] * 5,
            "seed": [0, 0, 0, 1, 1],
            "run": ["a/b/0"] * 3 + ["a/b/1"] * 2,
            "id": ["x"] * 3 + ["y"] * 2,
        }
    )
    chart = figures.learning_curves(frame)
    assert chart is not None
    points = drawing.specification(chart)["data"]["values"]
    assert [(p["epoch"], p["value"]) for p in points if p["curve"] == 2] == [(1.0, 0.5), (2.0, 2.5)]


def test_the_same_chart_has_the_same_specification_whatever_was_drawn_before() -> None:
    frame = pl.DataFrame({"x": [1, 2], "y": [0.1, 0.2]})
    first, second = (figures.metric_against(frame, "x", "y") for _ in range(2))
    assert first is not None
    assert second is not None
    assert drawing.specification(first) == drawing.specification(second)
    assert drawing.svg(drawing.specification(first)) == drawing.svg(drawing.specification(second))


def sweep_results(workdir: Path, rates: tuple[float, ...], decays: tuple[float, ...]) -> list[results.Result]:
    """Runs over a grid whose accuracy is 0.5 + rate - decay, and 0.01 more at seed 1."""
    runs = []
    for number, (rate, decay, seed) in enumerate((r, d, s) for r in rates for d in decays for s in (0, 1)):
        cfg = replace(Config(seed=seed), **{"optimizer.learning_rate": rate, "optimizer.weight_decay": decay})
        arm = f"learning_rate={rate},weight_decay={decay}"
        folders.write_run(workdir / "runs" / f"{number:016x}", cfg, arm, 8, epochs=2)
        runs.append({"id": f"{number:016x}", "arm": arm, "budget": "2epochs", "seed": seed})
    entry = {"name": "sweep", "scale": "", "question": "", "command": "", "axes": [], "runs": runs}
    store.write_study(workdir, entry)
    found = results.read(workdir)[0].results
    for result in found:
        optimizer = result.config["optimizer"]
        top1 = 0.5 + optimizer["learning_rate"] - optimizer["weight_decay"] + 0.01 * result.seed
        result.summary["eval/top1"] = result.summary["best/top1"] = top1
    return found


def test_a_sweep_lists_its_settings_best_first(tmp_path: Path) -> None:
    found = sweep_results(tmp_path, (0.1, 0.3, 0.2), (0.0, 0.05))
    document = sweep.sweep_document(found, ["optimizer.learning_rate", "optimizer.weight_decay"])
    table, figure = document.sections[0].items
    assert isinstance(table, Table)
    order = table.frame.select("optimizer.learning_rate", "optimizer.weight_decay").rows()
    assert order == [(0.3, 0.0), (0.3, 0.05), (0.2, 0.0), (0.2, 0.05), (0.1, 0.0), (0.1, 0.05)]
    assert table.frame["eval/top1"][0]["mean"] == pytest.approx(0.805, abs=1e-12)  # rounding of decimals
    assert "0.8050 at `optimizer.learning_rate = 0.3`, `optimizer.weight_decay = 0`" in document.sections[0].text
    assert not isinstance(figure, Table)
    assert figure.chart is not None
    values = drawing.specification(figure.chart)["data"]["values"]
    assert {(v["x"], v["y"]): round(v["v"], 6) for v in values}[("0.2", "0.05")] == 0.655


def test_a_sweep_finds_its_own_axes_and_draws_a_line_for_one(tmp_path: Path) -> None:
    found = sweep_results(tmp_path, (0.1, 0.2), (0.0,))
    document = sweep.sweep_document(found)
    assert document.title == "Sweep over learning rate"
    assert [item.title for item in document.sections[0].items[1:]] == [
        "Evaluation top-1 accuracy against optimizer.learning_rate"
    ]


def test_listing_studies_needs_no_drawing_library() -> None:
    code = "import sys, research.reports, research.reports.document, research.reports.figures, research.reports.sweep\n"
    code += "print(sorted({'altair', 'polars', 'vl_convert', 'jinja2', 'scipy', 'jax'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
