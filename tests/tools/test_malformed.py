"""Malformed input on the real command line, as `make malformed` gives it; here a few cases of one seed."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tools.malformed import mutation, running
from tools.malformed.__main__ import kinds
from tools.malformed.case import Place, digest, draw

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.mount
def test_malformed_input_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "tools.malformed", "--cases", "40", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "refused 40 of 40", done.stdout + done.stderr
    assert done.returncode == 0


def drawn(seed, number, folder):
    folder.mkdir()
    return draw(WITHOUT_RUN, seed, number, Place(folder, folder)), digest(folder)


WITHOUT_RUN = {name: kind for name, kind in kinds().items() if name.startswith(("words", "overrides", "recipes"))}


def test_a_case_is_the_same_again_and_another_for_another_seed(tmp_path):
    first = [drawn(3, number, tmp_path / f"a{number}") for number in range(40)]
    again = [drawn(3, number, tmp_path / f"b{number}") for number in range(40)]
    other = [drawn(4, number, tmp_path / f"c{number}") for number in range(40)]
    assert first == again
    assert sum(one != two for one, two in zip(first, other, strict=True)) > 35


@pytest.mark.parametrize("seed", range(50))
def test_what_is_spoilt_is_never_sound(seed):
    chance = random.Random(seed)
    assert mutation.typo(chance, "report", ["report", "repot"]) not in ("report", "repot")
    text = mutation.no_json_object(chance, {"a": {"b": 1}})
    try:
        found = json.loads(text.decode())
    except (ValueError, RecursionError):
        return
    assert not isinstance(found, dict)


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        ((2, "", "error: x\n", (), 0.1, 0), ""),
        ((1, "", "failed: x\n", (), 0.1, 0), ""),
        ((0, "", "", (), 0.1, 0), "exit code 0"),
        ((-11, "", "", (), 0.1, 0), "exit code -11"),
        ((None, "", "", (), 0.1, 0), "had not ended"),
        ((1, "", "failed: KeyError: x (--debug shows more)\n", (), 0.1, 0), "nobody foresaw"),
        ((2, "", "a\nb\n", (), 0.1, 0), "2 lines"),
        ((2, "", "", (), 0.1, 0), "0 lines"),
        ((1, "", "Traceback (most recent call last):\n", (), 0.1, 0), "a traceback"),
        ((2, "", "error: \x1b[31mx\n", (), 0.1, 0), "control characters"),
        ((2, "x", "error: x\n", (), 0.1, 0), "standard output"),
        ((2, "", "error: x\n", ("'W'",), 0.1, 0), "it changed 'W'"),
        ((2, "", "error: x\n", (), 0.1, 9 << 30), "9.0 GiB"),
    ],
)
def test_what_is_wrong_with_an_end(ended, fault):
    found = running.fault(running.Ended(*ended))
    assert fault in found
    assert bool(fault) == bool(found)
