"""The list of studies of a workdir, written by several launches at once."""

import subprocess
import sys
from pathlib import Path

from research.sweeps import store

ROOT = Path(__file__).resolve().parents[2]
WRITES = """
import sys
from research.sweeps import store
for number in range(20):
    entry = {"name": sys.argv[2], "scale": str(number), "question": "?", "command": "?", "axes": [], "runs": []}
    store.write_study(sys.argv[1], entry)
    store.write_timings(sys.argv[1], {f"{sys.argv[2]} {number}": {"step_seconds": number}})
"""


def write_at_once(workdir: str) -> None:
    """Two processes, each with twenty studies and timings of its own."""
    words = [[sys.executable, "-c", WRITES, workdir, name] for name in ("one", "other")]
    both = [subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) for line in words]
    for process in both:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    found = sorted((entry["name"], int(entry["scale"])) for entry in store.read_studies(workdir))
    assert found == [(name, number) for name in ("one", "other") for number in range(20)]
    assert len(store.read_timings(workdir)) == 40


def test_two_launches_at_once_lose_no_entry(tmp_path: Path) -> None:
    write_at_once(str(tmp_path))
