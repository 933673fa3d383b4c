"""The README and the recipes say true things: names exist, commands parse, the Python example runs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from safetensors.numpy import save_file

import arguments
import configs
import experiments
import launch
from research import models, overrides, pretrained
from research.testing import model_laws, named_weights

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
    parser, _ = arguments.parser(launch.__doc__, launch.VERBS)
    parsed, rest = parser.parse_known_args(words)
    if parsed.verb in ("train", "sweep"):
        overrides.apply(configs.load(parsed.config), rest)
    else:
        assert not rest or (parsed.verb == "inspect" and overrides.parse_fields(parsed.model, rest))
    if parsed.verb == "study":
        assert parsed.scale in experiments.load(parsed.name).SCALES


def test_what_the_readme_shows_of_refusals_is_what_is_printed(capsys):
    shown = [block.splitlines() for _, block in BLOCKS if block.startswith("$ python launch.py")]
    assert shown
    for command, *printed in shown:
        assert launch.main(shlex.split(command)[3:]) == 2
        assert capsys.readouterr().err.splitlines() == printed


def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (example,) = [block for language, block in BLOCKS if language == "python" and "training.train" in block]
    # The same lines on a smaller network and folder; what is under test is that the names and calls are right.
    small = example.replace("resnet50", "resnet18").replace("224", "32").replace("2 epochs", "2 steps")
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {})
    assert (tmp_path / "runs" / "from_python" / "summary.json").exists()
    assert "25557032 4089184256 11114984" in example
    assert capsys.readouterr().out.split()[0] == "11689512"


def test_the_example_of_weights_in_the_readme_runs(tmp_path, monkeypatch):
    (example,) = [block for language, block in BLOCKS if language == "python" and "pretrained.load" in block]
    monkeypatch.chdir(tmp_path)
    save_file(names_to_arrays("resnet50"), "resnet50-0676ba61.pth")  # the format is told by the content
    found = {}
    exec(compile(example, "README.md", "exec"), found)
    assert found["model"].num_classes == 1000
    assert found["how"].size == 224
    assert found["features"].model().num_classes == 0


def test_the_readme_counts_the_networks():
    assert f"lists all {len(models.names())}:" in README


def names_to_arrays(variant):
    """Arrays by the names of the first reference known for a variant."""
    reference = pretrained.known(variant)[0]
    model, shape = models.create(variant, **dict(reference.fields)), models.variant(variant).input_shape
    shapes = pretrained.shapes_by_path(model_laws.initial_shapes(model, shape)[1])
    theirs = {reference.key(path): reference.shape(path, size) for path, size in shapes.items()}
    return {name: named_weights.array(name, size) for name, size in theirs.items()}


def test_no_path_of_a_machine_and_no_placeholder_is_left():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "README.md" in listed
    for file in listed:
        if file != "tests/test_documents.py" and (ROOT / file).is_file():
            text = (ROOT / file).read_text(errors="replace")
            assert not re.search(r"@[A-Z]+@|TODO|/home/|/root/", text), file
