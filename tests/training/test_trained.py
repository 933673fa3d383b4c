"""What a finished run is used for: predict, export and explain, through `launch.py` and beside it."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import launch
from research import config as configs
from research import data, training
from research.config import BudgetConfig, Config, DataConfig, ModelConfig, OptimizerConfig
from research.data.sources import source as data_source
from research.training import trained
from research.values import Duration

CONFIG = Config(
    model=ModelConfig("resnet8"),
    data=DataConfig("digits", batch_size=64),
    optimizer=OptimizerConfig("momentum", learning_rate=0.1, weight_decay=1e-3),
    budget=BudgetConfig(train=Duration(5, "epochs")),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    training.train(CONFIG, folder, display=False)
    return folder


@pytest.fixture(scope="module")
def scans(run):
    """Files of the first test scans, and their labels."""
    images, labels = data_source(CONFIG.data).read(CONFIG.data, "eval").read(np.arange(12))
    files = [str(run / f"scan{i}.png") for i in range(len(labels))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    return files, labels


def test_predict_names_the_classes_of_files(run, scans, capsys):
    files, labels = scans
    assert launch.main(["predict", "--workdir", str(run), "--json", "--top", "3", *files]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in found] == files
    assert all(len(row["classes"]) == 3 for row in found)
    assert all(row["classes"][0][1] >= row["classes"][1][1] for row in found)
    right = [row["classes"][0][0] == str(label) for row, label in zip(found, labels, strict=True)]
    assert np.mean(right) >= 0.75  # of scans that it has not seen, after a few epochs
    assert launch.main(["predict", "--workdir", str(run), files[0]]) == 0
    assert found[0]["classes"][0][0] in capsys.readouterr().out


def test_prediction_is_that_of_the_evaluated_model(run, scans):
    """Alone or in a batch, and not of what pads the batch."""
    files, _ = scans
    loaded = trained.load(run)
    together = trained.predict(loaded, files, top=10, batch_size=5)
    for file, of_batch in zip(files, together, strict=True):
        (alone,) = trained.predict(loaded, [file], top=10)
        assert alone.classes[0][0] == of_batch.classes[0][0]
        # Another batch size is another program, whose sums run in another order.
        np.testing.assert_allclose(dict(alone.classes)["3"], dict(of_batch.classes)["3"], atol=1e-5)


@pytest.mark.parametrize("averaged", [False, True])
def test_prediction_is_with_the_statistics_that_were_evaluated(tmp_path, averaged):
    """Batch statistics estimated anew for the evaluation are those of the network that is used afterwards."""
    more = {"evaluation.batch_norm_batches": 3, "optimizer.ema_decay": 0.9 * averaged, "budget.train": "1 epochs"}
    cfg = configs.replace(CONFIG, **more)
    training.train(cfg, tmp_path, display=False)
    loaded = trained.load(tmp_path)
    images, labels = data_source(cfg.data).read(cfg.data, "eval").read(np.arange(359))
    found = np.argmax(np.asarray(jax.jit(loaded.probabilities)(images)), axis=-1)
    evaluated = training.evaluate(tmp_path)
    assert np.mean(found == labels) == pytest.approx(evaluated["ema/top1" if averaged else "top1"], abs=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {"data.crop_fraction": 0.5},  # without a resolution nothing is cropped
        {"data.resolution": 8, "data.crop_fraction": 0.5},  # of exactly that size, and cropped all the same
        {"data.resolution": 12, "data.interpolation": "bicubic"},
        {"data.resolution": 12, "data.fit": "pad"},
        {"data.name": "orl_faces", "data.resolution": 16, "data.channels": 3, "data.crop_fraction": 0.8},
    ],
)
def test_files_become_the_images_that_were_evaluated(tmp_path, fields):
    """To the byte, from files of the very images."""
    cfg = configs.replace(CONFIG, **fields, **{"budget.train": "2 steps"})
    training.train(cfg, tmp_path, display=False)
    images, _ = data_source(cfg.data).read(cfg.data, "eval").read(np.arange(3))
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image[..., 0]).save(file)
    evaluated = data.pipeline(cfg.data, seed=0).resident["eval"]["image"][:3]
    assert np.array_equal([trained.load(tmp_path).fitted(file) for file in files], evaluated)


RELOAD = """
import sys
import numpy as np
from jax import export
run = export.deserialize(open(sys.argv[1], "rb").read())
np.save(sys.argv[4], np.asarray(run.call(np.load(sys.argv[2]))))
assert not [name for name in sys.modules if name.split(".")[0] in ("research", "flax")]
"""
OURS = """
import sys
import jax
import numpy as np
from research.training import trained
np.save(sys.argv[4], np.asarray(jax.jit(trained.load(sys.argv[3]).probabilities)(np.load(sys.argv[2]))))
"""


@pytest.mark.parametrize("count", [1, 4])
def test_export_gives_the_same_bits_without_this_code(run, scans, tmp_path, capsys, count):
    out = tmp_path / "network.stablehlo"
    assert launch.main(["export", "--workdir", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    described = json.loads((tmp_path / "network.stablehlo.json").read_text())
    assert described["input"]["shape"] == ["b", 8, 8, 1]
    assert described["output"]["class_names"] == list("0123456789")
    loaded = trained.load(run)
    images = np.stack([loaded.fitted(file) for file in scans[0][:count]])
    np.save(tmp_path / "images.npy", images)
    words = [str(out), str(tmp_path / "images.npy"), str(run), str(tmp_path / "out.npy")]
    environment = {**os.environ, "XLA_FLAGS": described["xla_flags"]}
    for program in (RELOAD, OURS):  # the latter not in this process, whose products are divided among more threads
        subprocess.run([sys.executable, "-c", program, *words], check=True, cwd=tmp_path, env=environment)
        words[-1] = str(tmp_path / "ours.npy")
    ours = np.load(tmp_path / "ours.npy")
    assert np.array_equal(np.load(tmp_path / "out.npy"), ours)
    np.testing.assert_allclose(jax.jit(loaded.probabilities)(images), ours, rtol=1e-4, atol=1e-6)  # rounding


def test_explain_writes_a_picture(run, scans, tmp_path, capsys):
    out = tmp_path / "seen.png"
    words = ["explain", "--workdir", str(run), "--image", scans[0][0], "--out", str(out)]
    assert launch.main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == str(out)
    assert said[0].endswith("at stage3")
    assert Image.open(out).size == (8, 8)
    assert launch.main([*words, "--layer", "stage1_block1/conv1", "--class", "7"]) == 0
    assert capsys.readouterr().out.startswith("7, probability")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "none.png"], "image 'none.png' does not exist"),
        (["predict", "--checkpoint", "77", "SCAN"], "unknown checkpoint '77'"),
        (["predict", "--top", "0", "SCAN"], "--top is 0"),
        (["explain", "--image", "SCAN", "--layer", "stage9"], "nearest: stage3"),
        (["explain", "--image", "SCAN", "--class", "eleven"], "unknown class 'eleven'"),
        (["explain", "--image", "SCAN", "--out", "seen.gif"], "expected a .png or .jpg"),
        (["explain", "--image", "SCAN", "--out", "RUN/config.json/e.png"], "is a file; expected a folder"),
        (["export", "--out", "none/such/file"], "expected a file in a folder that exists"),
    ],
)
def test_wrong_words_are_refused_in_one_line(run, scans, capsys, words, message):
    verb, *rest = [scans[0][0] if word == "SCAN" else word.replace("RUN", str(run)) for word in words]
    assert launch.main([verb, "--workdir", str(run), *rest]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert launch.main(["predict", "--workdir", str(tmp_path), "image.png"]) == 2
    assert "config.json" in capsys.readouterr().err
