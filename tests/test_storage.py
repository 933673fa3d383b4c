"""Storage: what it does not know it refuses, in one line that says what to install."""

import importlib.util
from pathlib import Path

import pytest

import launch
from research import storage
from research.errors import UserError


@pytest.mark.parametrize(("scheme", "library"), storage.LIBRARIES.items())
def test_without_its_library_a_store_is_refused_in_one_line(
    scheme: str, library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == library else find(name, *more))
    storage._library.cache_clear()
    folder = f"{scheme}://bucket/run"
    of_a_run = ["eval", "predict image.png", "export --out network", "explain --image image.png"]
    commands = [
        "train digits --workdir",
        "sweep digits --grid seed=0,1 --workdir",
        "study residual_vs_plain --scale smoke --workdir",
        *(f"{verb} --workdir" for verb in of_a_run),
        "bench --workdir",
        "report",
        "status",
    ]
    for command in commands:
        assert launch.main([*command.split(), folder]) == 2, command
        error = capsys.readouterr().err
        assert error == f"error: paths of {scheme}:// need {library}; install the extra `{scheme}`\n", command


def test_other_addresses_are_refused() -> None:
    with pytest.raises(UserError, match=r"paths of http:// are not known; expected a folder .*, gs:// or s3://"):
        storage.reach("http://somewhere/run")


def test_weights_are_read_from_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["train", "digits", "--transfer.weights", "s3://bucket/run", "--workdir", str(tmp_path / "run")]
    assert launch.main(words) == 2
    assert "expected a file or a run's folder of this machine" in capsys.readouterr().err


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert storage.read(tmp_path / "none") is None
    assert storage.read(tmp_path / "file" / "none") is None
    assert storage.names(tmp_path / "none") == storage.names(tmp_path / "file") == []
    storage.remove(tmp_path / "none")
    storage.remove_tree(tmp_path / "none")
    storage.write(tmp_path / "a" / "b" / "file", b"bytes")
    assert storage.names(tmp_path / "a") == ["b"]
    assert storage.read(tmp_path / "a" / "b" / "file") == b"bytes"
