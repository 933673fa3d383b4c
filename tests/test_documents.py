"""The README and the recipes say true things: names exist, commands parse, the Python example runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import configs
import experiments
import launch
from research import overrides

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for _, block in BLOCKS
        for line in block.splitlines()
        if line.startswith("python launch.py")
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_readme_parses_and_names_what_exists(command):
    words = shlex.split(command)[2:]
    parser, _ = launch._parser()
    parsed, rest = parser.parse_known_args(words)
    if parsed.verb in ("train", "sweep"):
        overrides.apply(configs.load(parsed.config), rest)
    else:
        assert not rest
    if parsed.verb == "study":
        assert parsed.scale in experiments.load(parsed.name).SCALES


def test_what_the_readme_shows_of_refusals_is_what_is_printed(capsys):
    shown = [block.splitlines() for _, block in BLOCKS if block.startswith("$ python launch.py")]
    assert shown
    for command, *printed in shown:
        assert launch.main(shlex.split(command)[3:]) == 2
        assert capsys.readouterr().err.splitlines() == printed


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (example,) = [block for language, block in BLOCKS if language == "python"]
    # The same lines on a smaller network and folder; what is under test is that the names and calls are right.
    small = example.replace("resnet50", "resnet18").replace("224", "32").replace("2 epochs", "2 steps")
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "from_python" / "summary.json").exists()
    assert "25557032 4089184256 11114984" in example
    assert capsys.readouterr().out.split()[0] == "11689512"


def test_no_path_of_a_machine_and_no_placeholder_is_left():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "README.md" in listed
    for file in listed:
        if file != "tests/test_documents.py" and (ROOT / file).is_file():
            text = (ROOT / file).read_text(errors="replace")
            assert not re.search(r"@[A-Z]+@|TODO|/home/|/root/", text), file
