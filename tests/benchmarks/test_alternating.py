"""The sides of a benchmark: processes that take turns, and say why when they cannot."""

import sys

import pytest

from benchmarks import alternating
from benchmarks.alternating import ROOT, Side, SideFailed

SIDE = """
import os, sys, time
from benchmarks.alternating import serve

def prepare(spec):
    print("a library says something")
    os.system("echo so does a program")
    if "refuse" in spec:
        raise ValueError("no such network")
    if "die" in spec:
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(1)
    def step(calls):
        with open(spec["log"], "a") as log:
            log.write(f"{sys.argv[1]}{calls} ")
        return spec["seconds"]
    return {"step": step}, {"double": 2 * spec["seconds"], "flags": os.environ.get("XLA_FLAGS")}

serve(prepare)
"""


@pytest.fixture
def sides(tmp_path):
    """Two tiny sides, running."""
    file = tmp_path / "side.py"
    file.write_text(SIDE)
    path = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": None}
    one = Side("one", [sys.executable, str(file), "a"], path)
    other = Side("other", [sys.executable, str(file), "b"], {**path, "XLA_FLAGS": "--flag"})
    with one, other:
        yield one, other


def test_sides_take_turns(sides, tmp_path):
    log = tmp_path / "log"
    facts = [side.prepare({"seconds": s, "log": str(log)}) for side, s in zip(sides, (0.5, 0.01), strict=True)]
    assert facts == [{"double": 1.0, "flags": None}, {"double": 0.02, "flags": "--flag"}]
    taken = alternating.alternate({side.name: side.timer("step") for side in sides}, budget=0)
    assert taken == {"one": [0.5] * 5, "other": [0.01] * 5}
    # Once each to be warm, then five rounds; the short one as often as makes a turn of 0.05 s.
    assert log.read_text().split() == ["a1", "b1", *["a1", "b5"] * 5]


def test_a_side_that_fails_says_why_and_goes_on(sides, tmp_path):
    one, _ = sides
    with pytest.raises(SideFailed, match="one: ValueError: no such network"):
        one.prepare({"refuse": True})
    assert one.prepare({"seconds": 1.0, "log": str(tmp_path / "log")}) == {"double": 2.0, "flags": None}
    with pytest.raises(SideFailed, match="one: KeyError"):
        one.timer("another")(1)


def test_a_side_that_ends_is_noticed(sides):
    with pytest.raises(SideFailed, match="other ended: out of memory"):
        sides[1].prepare({"die": True})


def test_a_program_that_is_not_there_is_a_side_that_fails():
    with pytest.raises(SideFailed, match="torch cannot start"), Side("torch", ["no/such/python"]):
        pass


@pytest.mark.parametrize(("seconds", "budget", "rounds"), [(0.1, 0, 5), (2, 0, 3), (2, 20, 10), (0.1, 1e9, 15)])
def test_rounds_follow_from_what_a_call_takes(seconds, budget, rounds):
    assert alternating.alternate({"one": lambda calls: seconds}, budget=budget) == {"one": [seconds] * rounds}


def test_a_ratio_is_of_medians():
    middle, low, high = alternating.ratio([1.0, 2.0, 3.0], [2.0, 6.0, 12.0])
    assert middle == 3.0
    assert (low, high) == (2.5, 3.5)  # of 2, 3 and 4
