"""What the probes of runs found: which record is read, and what is drawn of it."""

from typing import Any

import pytest

from research.reports import drawing, probed
from research.sweeps.results import Result

GRADIENTS = "gradient_norms"


def run(arm: str, seed: int, *probes: dict[str, float], status: str = "finished", probe: str = GRADIENTS) -> Result:
    """A run that was probed so many times, with other records between."""
    records: list[dict[str, Any]] = []
    for step, values in enumerate(probes):
        records.append({"step": step, **{f"probe/{probe}/{layer}": value for layer, value in values.items()}})
        records.append({"step": step, "train/loss": 1.0, "probe/another/stem": 7.0})
    return Result(f"{arm}{seed}", arm, "d", seed, "runs/x", status, metrics=records)


def marks(result: list[Result], when: Any, probe: str = GRADIENTS) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    figure = probed.figure(result, probe, when)
    assert figure.chart is not None
    spec = drawing.specification(figure.chart)
    return spec, spec["data"]["values"]


def test_the_first_and_the_last_record_of_a_probe_in_the_order_of_its_layers() -> None:
    probed_twice = run("a", 0, {"stem": 4.0, "stage1": 2.0, "head": 1.0}, {"stem": 3.0, "stage1": 1.5, "head": 0.5})
    assert list(probed.found(probed_twice, GRADIENTS, "first").items()) == [
        ("stem", 4.0),
        ("stage1", 2.0),
        ("head", 1.0),
    ]
    assert probed.found(probed_twice, GRADIENTS, "last") == {"stem": 3.0, "stage1": 1.5, "head": 0.5}
    assert probed.found(probed_twice, "another", "last") == {"stem": 7.0}
    assert probed.found(probed_twice, "gradient", "last") == {}  # the start of a name is not the name
    rows = probed.rows([probed_twice], GRADIENTS, "last")
    assert [(row["layer"], row["place"], row["value"], row["run"]) for row in rows] == [
        ("stem", 1, 3.0, "a0"),
        ("stage1", 2, 1.5, "a0"),
        ("head", 3, 0.5, "a0"),
    ]


def test_lines_are_the_means_of_an_arm_at_each_place() -> None:
    """Layer 2 of arm a: 2, 4 and 6 in three seeds, so 4, and 4 +- t(0.975; 2) x 2 / sqrt(3) = 4 +- 4.968."""
    runs = [run("a", seed, {"x": 1.0, "y": value}) for seed, value in enumerate((2.0, 4.0, 6.0))]
    spec, values = marks([*runs, run("b", 0, {"x": 5.0})], "last")
    means = {(v["colour"], v["x"]): v for v in values if v["kind"] == "mean"}
    assert {place: v["y"] for place, v in means.items()} == {("a", 1): 1.0, ("a", 2): 4.0, ("b", 1): 5.0}
    # 4.302653 from any table of t, to its last digit
    assert means["a", 2]["high"] == pytest.approx(4 + 4.302653 * 2 / 3**0.5, rel=1e-6)
    assert {v["run"] for v in values if v["kind"] == "run"} == {"a0", "a1", "a2", "b0"}
    assert spec["layer"][0]["encoding"]["x"]["scale"].get("type") != "log"  # layers are counted, not scaled


def test_values_over_decades_have_a_logarithmic_axis_that_bars_do_not_leave() -> None:
    decades = [run("a", seed, {"x": 1.0, "y": value}) for seed, value in enumerate((0.001, 0.01, 0.5))]
    spec, values = marks(decades, "last")
    assert spec["layer"][0]["encoding"]["y"]["scale"] == {"type": "log"}
    assert [v["low"] for v in values if v["kind"] == "mean" and v["x"] == 2] == [0.001]  # the interval reaches below 0
    narrow, _ = marks([run("a", 0, {"x": 1.0, "y": 0.9})], "last")
    assert narrow["layer"][0]["encoding"]["y"]["scale"] == {"zero": False}


def test_many_layers_are_lines_and_small_points_without_bars() -> None:
    deep = [run(arm, seed, {f"l{n}": 1 + n / 60 + seed for n in range(60)}) for arm in "ab" for seed in range(3)]
    kinds = [layer["mark"]["type"] for layer in marks(deep, "last")[0]["layer"]]
    assert kinds == ["line", "point"]
    few = [run(arm, seed, {f"l{n}": 1 + n / 60 + seed for n in range(6)}) for arm in "ab" for seed in range(3)]
    assert [layer["mark"]["type"] for layer in marks(few, "last")[0]["layer"]] == ["line", "rule", "point", "point"]


def test_titles_say_what_and_when() -> None:
    before = probed.figure([run("a", 0, {"x": 1.0})], GRADIENTS, "first")
    assert before.title == "Gradient norm of each layer's kernel, before training"
    blocks = [run("a", 0, {"block1": 0.4, "block2": 0.1}, probe="block_deletion_errors")]
    spec, _ = marks(blocks, "last", "block_deletion_errors")
    encoding = spec["layer"][0]["encoding"]
    assert (encoding["x"]["title"], encoding["y"]["title"]) == ("block, from the image on", "error without a block")
    nothing = probed.figure([run("a", 0), run("b", 0, status="waiting")], GRADIENTS, "last")
    assert (nothing.chart, nothing.note) == (None, "No run has been probed yet.")
    assert probed.figure([], "my_probe", "first").title == "my probe, before training"
