"""Errors and paths from anywhere: one line that is safe to show, and names that nothing can have."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import launch
from research import catalogue, paths
from research.errors import LONGEST, UserError, described, one_line


@given(st.text(max_size=3000))
def test_an_error_is_one_line_that_no_terminal_obeys(text):
    shown = str(UserError(text))
    assert len(shown) <= LONGEST
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)
    plain = " ".join(text.split())
    assert shown == plain or not plain.isascii() or not plain.isprintable() or len(plain) > LONGEST


def test_both_ends_of_a_long_error_stay():
    shown = one_line("begin " + "x" * 10**5 + " end")
    assert shown.startswith("begin")
    assert shown.endswith("end")


def test_an_error_whose_message_raises_has_its_kind():
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert described(Odd()) == "Odd"
    assert described(KeyError("x")) == "KeyError: 'x'"


def names(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    return {
        "long": "n" * 300,
        "loop": tmp_path / "loop" / "x",
        "nul": "a\0b",
        "file": tmp_path / "file",
        "below": tmp_path / "file" / "x",
    }


@pytest.mark.parametrize("name", ["long", "loop", "nul", "file", "below"])
def test_what_cannot_be_a_folder_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="workdir"):
        paths.check_folder(names(tmp_path)[name], "workdir")


@pytest.mark.parametrize("name", ["long", "loop", "nul", "below"])
def test_what_cannot_be_a_file_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="--out"):
        paths.check_file(names(tmp_path)[name], "--out")


def test_what_can_be_written_is_let_through(tmp_path):
    paths.check_folder(tmp_path / "a" / "b", "workdir")
    paths.check_folder(tmp_path, "workdir")
    paths.check_file(tmp_path / "f", "--out")
    (tmp_path / "f").write_bytes(b"")
    paths.check_file(tmp_path / "f", "--out")
    with pytest.raises(UserError, match="folder"):
        paths.check_file(tmp_path, "--out")
    assert not paths.answer((tmp_path / "loop" / ("n" * 300)).is_file)


@pytest.mark.mount
def test_a_file_system_on_which_nothing_can_be_written_is_refused_before_anything_compiles(tmp_path, capsys):
    import subprocess

    subprocess.run(["mount", "--bind", str(tmp_path), str(tmp_path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(tmp_path)], check=True)
        for words in (
            ["train", "digits:resnet8", "--workdir", str(tmp_path / "new")],
            ["inspect", "digits", "--schedule", "--out", str(tmp_path / "rate.svg")],
        ):
            assert launch.main(words) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "written" in said
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.parametrize("code", ["class Stop(BaseException): pass\nraise Stop('now')", "raise SystemExit(0)", "1 / 0"])
def test_whatever_a_users_file_raises_is_one_line(tmp_path, capsys, code):
    (tmp_path / "own.py").write_text(code)
    assert launch.main(["train", str(tmp_path / "own.py"), "--workdir", str(tmp_path / "W")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be imported" in said


def test_a_folder_of_records_names_no_code_inside_of_itself(tmp_path):
    (tmp_path / "runs").mkdir()
    inside, outside = tmp_path / "runs" / "own.py", tmp_path / "own.py"
    for file in (inside, outside):
        file.write_text("x = 1\n")
    catalogue.refuse_inside(tmp_path / "runs", ["resnet8", f"{outside}:Net", "softmax"], "config.json")
    with pytest.raises(UserError, match="which is not run"):
        catalogue.refuse_inside(tmp_path / "runs", [f"{inside}:Net"], "config.json")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "runs")
    with pytest.raises(UserError, match="which is not run"):
        catalogue.refuse_inside(tmp_path / "runs" / "link", [f"{inside}:Net"], "config.json")


def test_a_run_of_a_sweep_names_no_code_inside_of_the_sweep(tmp_path):
    run, own = tmp_path / "sweep" / "runs" / ("0" * 16), tmp_path / "sweep" / "own.py"
    run.mkdir(parents=True)
    own.write_text("x = 1\n")
    with pytest.raises(UserError, match="which is not run"):
        catalogue.refuse_inside(run, [f"{own}:Net"], "config.json")
    mine = tmp_path / "runs" / "f20"  # a folder of one's own beside one's own code
    mine.mkdir(parents=True)
    (tmp_path / "own.py").write_text("x = 1\n")
    catalogue.refuse_inside(mine, [f"{tmp_path}/own.py:Net"], "config.json")


def test_a_report_runs_no_study_that_came_with_its_folder(tmp_path, capsys):
    from research.sweeps import store

    marker = tmp_path / "ran"
    (tmp_path / "sweep").mkdir()
    study = tmp_path / "sweep" / "own.py"
    study.write_text(f"open({str(marker)!r}, 'w')\n")
    entry = {"name": str(study), "scale": "smoke", "question": "?", "command": "", "axes": [], "runs": []}
    store.write_study(tmp_path / "sweep", entry)
    assert launch.main(["report", str(tmp_path / "sweep")]) == 2
    assert "which is not run" in capsys.readouterr().err
    assert not marker.exists()
