"""Scratch folders: gone with their process, however it ended, and never while it lives."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from research.scratch import PREFIX, Scratch

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import sys
from research.scratch import Scratch
scratch = Scratch()
(scratch.path / "file").write_text("text")
print(scratch.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextlib.contextmanager
def holder() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that has a scratch folder."""
    words = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(temporary: Path) -> None:
    with holder() as (killed, left), holder() as (_, kept):
        assert {left.parent, kept.parent} == {temporary}
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "file").exists()
        own = Scratch()
        assert sorted(temporary.iterdir()) == sorted([kept, own.path])
        assert (kept / "file").exists()
        own.remove()
        assert not own.path.exists()


def test_it_goes_with_its_process(temporary: Path) -> None:
    with holder() as (process, place):
        process.communicate("")
        assert not place.exists()


def test_nothing_else_is_removed(temporary: Path) -> None:
    outside = temporary / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (temporary / f"{PREFIX}link").symlink_to(outside)
    (temporary / f"{PREFIX}file").touch()
    os.mkfifo(temporary / f"{PREFIX}pipe")
    Scratch().remove()
    assert len(list(temporary.iterdir())) == 4
    assert (outside / "file").exists()
