"""`tools/photo_crops.py`: the same set in each format, from scikit-learn's two photographs if there are no others."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from research import data
from research.config import DataConfig
from research.data import sources

ROOT = Path(__file__).resolve().parents[2]
TRAIN, TEST = 36, 35  # one a class and more, also where the other packages are installed


def make(*words):
    command = [sys.executable, "tools/photo_crops.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def read(cfg):
    examples = sources.source(cfg).read(cfg, "train")
    images, labels = examples.read(np.arange(examples.count))
    return sorted(zip([image.read() for image in images], labels.tolist(), strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for form in ("folder", "array_record", "tfrecord"):
        run = make(folder / form, "--format", form, "--train", TRAIN, "--test", TEST)
        assert run.returncode == 0, run.stderr
        name = "image_folder" if form == "folder" else "photos"
        assert run.stdout.splitlines()[-1] == f"use it with --data.name {name} --data.path {folder / form}"
    return {
        form: DataConfig(name=name, path=str(folder / form), resolution=32)
        for form, name in (("folder", "image_folder"), ("array_record", "photos"), ("tfrecord", "photos"))
    }


def test_every_format_holds_the_same_set(made):
    for cfg in made.values():
        info = data.info(cfg)
        assert set(info.class_names) >= {"china", "flower"}
        assert (info.train_examples, info.eval_examples) == (TRAIN, TEST)
        assert read(cfg) == read(made["folder"])
    training = {image for image, _ in read(made["folder"])}
    test = {file.read_bytes() for file in Path(made["folder"].path, "test").rglob("*.jpg")}
    assert len(training | test) == TRAIN + TEST


def test_what_cannot_be_made_is_refused(made):
    run = make(made["folder"].path)
    assert run.returncode == 2
    assert run.stderr.startswith(f"{made['folder'].path} exists; move it away")
    run = make("nowhere", "--train", 1)
    assert run.returncode == 2
    assert "expected at least" in run.stderr
