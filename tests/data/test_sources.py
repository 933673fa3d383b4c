"""Worked examples of each kind of source, and what is refused, in one line each."""

import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from research import data
from research.config import DataConfig
from research.data import examples, sources
from research.data.__main__ import main, restore_fashion
from research.errors import UserError
from tests.data.conftest import encode, random_image, store, write_folder


def refused(cfg, call=data.info):
    with pytest.raises(UserError) as error:
        call(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


def load(cfg, seed=0):
    return data.pipeline(cfg, seed=seed)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch, resident = load_digits(), load(DataConfig()).resident
    stored = [(i.tobytes(), int(k)) for s in ("train", "eval") for i, k in zip(*_pair(resident[s]), strict=True)]
    expected = np.round(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    assert sorted(stored) == sorted((i.tobytes(), int(k)) for i, k in zip(expected, bunch.target, strict=True))
    assert (len(resident["train"]["label"]), len(resident["eval"]["label"])) == (1438, 359)
    share = np.bincount(resident["eval"]["label"]) / np.bincount(bunch.target)
    assert np.all(np.abs(share - 0.2) < 0.005)  # within one of about 180 images of a class


def _pair(part):
    return part["image"], part["label"]


def test_synthetic_is_learnable_and_not_trivial():
    resident = load(DataConfig(name="synthetic")).resident
    train, evaluation = resident["train"], resident["eval"]
    means = np.stack([train["image"][train["label"] == c].mean(axis=0) for c in range(10)])
    distance = np.square(evaluation["image"][:, None] - means[None]).sum(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == evaluation["label"]).mean() > 0.95
    assert {i.tobytes() for i in train["image"]}.isdisjoint(i.tobytes() for i in evaluation["image"])


def test_nothing_heavy_is_imported_for_static_metadata():
    code = (
        "import sys; from research import data; from research.config import DataConfig; data.info(DataConfig()); "
        "data.fingerprint(DataConfig()); data.summaries(); data.pipeline(DataConfig(), seed=0); "
        "print([m for m in ('sklearn', 'tensorflow', 'tensorflow_datasets', 'pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- image folder


def test_image_folder(tmp_path):
    root = write_folder(tmp_path, {"train": 6, "val": 3})
    (root / "train" / "cat" / "notes.txt").write_text("not an image")
    cfg = DataConfig(name="image_folder", path=str(root), batch_size=4)
    info = data.info(cfg)
    assert info.shape == (10, 14, 3)
    assert info.class_names == ("cat", "dog", "emu")
    assert (info.train_examples, info.eval_examples) == (18, 9)
    resident = load(cfg).resident
    for part in (resident["train"], resident["eval"]):
        brightest = part["image"].mean(axis=(1, 2)).argmax(axis=1)
        np.testing.assert_array_equal(brightest, part["label"])
    png = np.asarray(Image.open(root / "train/cat/1.png"))
    np.testing.assert_array_equal(resident["train"]["image"][1], png)
    small = load(dataclasses.replace(cfg, resolution=8, channels=1)).resident["train"]["image"]
    assert small.shape == (18, 8, 8, 1)


def test_image_folder_of_varying_sizes_needs_a_resolution(tmp_path):
    root = write_folder(tmp_path, {"train": 2, "test": 1})
    Image.fromarray(random_image(0, 20, 11, 3)).save(root / "train/dog/9.png")
    cfg = DataConfig(name="image_folder", path=str(root), batch_size=1)
    assert "10x14 and of 20x11; set data.resolution" in refused(cfg, load)
    assert load(dataclasses.replace(cfg, resolution=6)).resident["train"]["image"].shape == (7, 6, 6, 3)
    assert "smaller than the data's 20x11" in refused(dataclasses.replace(cfg, resolution=14, fit="pad"), load)


def test_fingerprint_follows_the_files_and_nothing_else(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    configs = [
        DataConfig(name="image_folder", path=str(write_folder(f, {"train": 2, "test": 1}))) for f in (first, second)
    ]
    before = data.fingerprint(configs[0])
    assert before == data.fingerprint(configs[1])
    assert before == data.fingerprint(dataclasses.replace(configs[0], resolution=5, train_examples=2))
    (second / "test/cat/0.jpg").write_bytes(b"other")
    assert before != data.fingerprint(configs[1])
    (first / "train/cat/0.jpg").rename(first / "train/cat/7.jpg")
    assert before != data.fingerprint(configs[0])


def test_fingerprint_of_a_large_set_reads_the_ends_of_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("research.data.stored.WHOLE", 1000)
    monkeypatch.setattr("research.data.stored.EDGE", 100)
    cfg = DataConfig(name="image_folder", path=str(write_folder(tmp_path, {"train": 4, "test": 1})))
    file, before = tmp_path / "train/cat/1.png", data.fingerprint(cfg)
    data_ = bytearray(file.read_bytes())
    assert len(data_) > 300
    digests = []
    for position in (50, len(data_) // 2, len(data_) - 50):
        changed = bytearray(data_)
        changed[position] ^= 1
        file.write_bytes(changed)
        digests.append(data.fingerprint(cfg))
    assert digests[1] == before
    assert before not in (digests[0], digests[2])


def test_image_folder_refusals(tmp_path):
    cfg = DataConfig(name="image_folder")
    assert "needs data.path" in refused(cfg)
    assert "there is no folder" in refused(dataclasses.replace(cfg, path=str(tmp_path / "missing")))
    root = write_folder(tmp_path / "only", {"train": 2})
    cfg = dataclasses.replace(cfg, path=str(root), batch_size=2)
    assert "has no test split; set data.validation" in refused(cfg)
    assert data.info(dataclasses.replace(cfg, validation=0.5)).eval_examples == 3
    (root / "test" / "cow").mkdir(parents=True)
    assert "unknown class in the evaluation folder" in refused(cfg)
    (root / "test" / "cow").rename(root / "test" / "cat")
    (root / "test/cat/0.png").write_bytes(b"\x89PNG damaged")
    assert "test/cat/0.png is not a readable image" in refused(cfg, load)


# --- TensorFlow Datasets, prepared here without TensorFlow


@pytest.mark.parametrize("stored_as", ["array_record", "parquet"])
def test_tfds_reads_what_was_stored(tmp_path, stored_as):
    features = {"picture": tfds.features.Image(shape=(6, 5, 3)), "kind": tfds.features.ClassLabel(names=["a", "b"])}
    images = [random_image(i, 6, 5, 3) for i in range(12)]
    made = [{"picture": encode(image), "kind": i % 2} for i, image in enumerate(images)]
    store("tiny", features, {"train": made[:8], "validation": made[8:]}, tmp_path, file_format=stored_as)
    cfg = DataConfig(name="tiny", path=str(tmp_path), batch_size=3)
    info = data.info(cfg)
    assert info == data.DatasetInfo("tiny", (6, 5, 3), 2, 8, 4, ("a", "b"))
    resident = load(cfg).resident
    expected = {images[i].tobytes(): i % 2 for i in range(8)}
    assert {i.tobytes(): int(k) for i, k in zip(*_pair(resident["train"]), strict=True)} == expected
    exact = dataclasses.replace(cfg, name="tiny:1.0.0")
    assert data.fingerprint(exact) == data.fingerprint(cfg)
    assert "unknown data set 'tiny:2.0.0'" in refused(dataclasses.replace(cfg, name="tiny:2.0.0"))
    store("tiny", features, {"train": made}, tmp_path, version="1.10.0")
    assert data.info(dataclasses.replace(cfg, validation=0.5)).train_examples == 6  # the newest: 1.10.0
    assert data.info(exact).train_examples == 8


def test_tfds_multi_label_and_configs(tmp_path):
    labels = tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4))
    features = {"image": tfds.features.Image(shape=(4, 4, 1)), "labels": labels}
    made = [
        {"image": encode(random_image(i, 4, 4, 1)), "labels": [i % 4] * (i > 0) + [3] * (i % 4 < 2)} for i in range(6)
    ]
    other = [{"image": encode(random_image(9, 4, 4, 1)), "labels": []}]
    store("many", features, {"train": made, "test": other}, tmp_path, config="plain")
    cfg = DataConfig(name="many/plain", path=str(tmp_path), batch_size=2)
    assert data.info(cfg).multi_label
    resident = load(cfg).resident
    np.testing.assert_array_equal(resident["eval"]["label"], np.zeros((1, 4)))
    part = resident["train"]
    of_image = {i.tobytes(): k for i, k in zip(*_pair(part), strict=True)}
    assert part["label"].dtype == np.float32
    np.testing.assert_array_equal(of_image[random_image(0, 4, 4, 1).tobytes()], [0, 0, 0, 1])
    np.testing.assert_array_equal(of_image[random_image(1, 4, 4, 1).tobytes()], [0, 1, 0, 1])
    np.testing.assert_array_equal(of_image[random_image(2, 4, 4, 1).tobytes()], [0, 0, 1, 0])
    assert load(dataclasses.replace(cfg, validation=0.5)).resident["eval"]["label"].shape == (3, 4)
    assert "expected one of: many/plain" in refused(dataclasses.replace(cfg, name="many"))


@pytest.mark.parametrize(
    ("features", "splits", "message"),
    [
        (
            {"image": tfds.features.Image(shape=(4, 4, 1)), "name": tfds.features.Text()},
            ["train"],
            "has 0 label features",
        ),
        ({"label": tfds.features.ClassLabel(num_classes=2)}, ["train"], "has 0 image features"),
        (
            {k: tfds.features.Image(shape=(4, 4, 1)) for k in "ab"}
            | {"label": tfds.features.ClassLabel(num_classes=2)},
            ["train"],
            "has 2 image features (a, b); expected one",
        ),
        (
            {"image": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(num_classes=2)},
            ["other"],
            "has no split train; it has: other",
        ),
        (
            {"image": tfds.features.Image(shape=(None, None, 1)), "label": tfds.features.ClassLabel(num_classes=2)},
            ["train", "test"],
            "holds images of many sizes; set data.resolution",
        ),
    ],
)
def test_tfds_refusals(tmp_path, features, splits, message):
    values = {"name": "x", "label": 1} | dict.fromkeys(("image", "a", "b"))

    def example():
        return {key: values[key] or encode(random_image(0, 4, 4, 1)) for key in features}

    store("odd", features, {split: [example()] for split in splits}, tmp_path)
    assert message in refused(DataConfig(name="odd", path=str(tmp_path)))


def test_tfds_without_random_access_is_refused(tmp_path):
    features = {"image": tfds.features.Image(shape=(4, 4, 1)), "label": tfds.features.ClassLabel(num_classes=2)}
    store("old", features, {"train": [{"image": encode(random_image(0, 4, 4, 1)), "label": 1}]}, tmp_path)
    stored = tmp_path / "old/1.0.0/dataset_info.json"
    stored.write_text(stored.read_text().replace('"fileFormat": "array_record"', '"fileFormat": "riegeli"'))
    message = refused(DataConfig(name="old", path=str(tmp_path)))
    assert "is prepared as riegeli, which has no random access" in message
    assert message.endswith("run python -m research.data prepare old")


def test_refusals_name_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert refused(DataConfig(name="digit")).startswith("unknown data set 'digit'; nearest: digits")
    assert "nearest: cifar10" in refused(DataConfig(name="cifar1O"))
    assert refused(DataConfig(name="cifar10")).endswith("run: python -m research.data prepare cifar10")
    assert refused(DataConfig(name="eurosat/rgb:2.0.0")).endswith(
        "run: python -m research.data prepare eurosat/rgb:2.0.0"
    )
    assert "prepare mnist --data-dir" in refused(DataConfig(name="mnist", path=str(tmp_path)))
    missing = refused(DataConfig(name="fashion_mnist", path=str(tmp_path)))
    assert "make install-system" in missing
    assert "python -m research.data prepare fashion_mnist" in missing
    assert "digits takes none" in refused(DataConfig(path="/somewhere"))
    assert refused(DataConfig(name="a\nb")).startswith("unknown data set")


def test_contradictions_are_refused_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(np, "loadtxt", None)  # reading would fail otherwise than with a UserError
    for fields, message in {
        (("resolution", 7), ("fit", "pad")): "data.resolution is 7, smaller than the data's 8x8",
        (("train_examples", 1439),): "data.train_examples is 1439, and digits has 1438",
        (("validation", 0.0001),): "holds out 0 of the 1438",
        (("validation", 1.0),): "holds out 1438 of the 1438",
    }.items():
        assert message in refused(DataConfig(**dict(fields)), load)
    large = DataConfig(resolution=10_000, input="resident")
    assert "digits at 10000x10000x1 takes 167.4 GiB" in refused(large, load)


def test_memory_limit_worked_example():
    info = data.DatasetInfo("some", (1024, 1024, 1), 2, 3, 1, ("a", "b"))  # 4 MiB in all
    examples.check_memory(info, available=8 * 2**20)
    with pytest.raises(UserError, match="some at 1024x1024x1 takes"):
        examples.check_memory(info, available=8 * 2**20 - 2)


# --- the command


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["prepare", "digits"], 0, "digits needs no preparation"),
        (["prepare", "cifar1O"], 2, "nearest: cifar10"),
        (["prepar", "cifar10"], 2, "expected: python -m research.data prepare NAME"),
        (["prepare"], 2, "required: name"),
    ],
)
def test_prepare_command(capsys, words, code, message):
    assert main(words) == code
    out, err = capsys.readouterr()
    assert message in (err if code else out)
    assert (err or out).count("\n") == 1


def test_prepare_needs_tensorflow_and_leaves_prepared_sets_alone(capsys, tmp_path, monkeypatch, config_of):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where TensorFlow is not installed
    assert main(["prepare", "cifar10", "--data-dir", str(tmp_path)]) == 2
    assert "preparing needs TensorFlow" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["prepare", "cifar10", "--data-dir", config_of("cifar10").path]) == 0
    assert "cifar10 is prepared in" in capsys.readouterr().out


@pytest.mark.debian
def test_restored_headers_match_the_checksums_tfds_registered(tmp_path):
    restore_fashion(sources.fashion_files(None), tmp_path)
    table = Path(tfds.__file__).parent / "url_checksums" / "fashion_mnist.txt"
    registered = {line.split("\t")[3]: line.split("\t")[2] for line in table.read_text().splitlines()}
    assert {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in tmp_path.iterdir()} == registered
    # Restored files are as good as Debian's where they stand, but other bytes.
    cfg = DataConfig(name="fashion_mnist", path=str(tmp_path))
    assert data.info(cfg) == data.info(DataConfig(name="fashion_mnist"))
    assert data.fingerprint(cfg) != data.fingerprint(DataConfig(name="fashion_mnist"))


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes())


def test_idx_files(tmp_path):
    from etils import epath

    file, array = epath.Path(tmp_path / "x.gz"), random_image(0, 3, 4, 2)
    file.write_bytes(idx(array))
    np.testing.assert_array_equal(sources.read_idx(file, 3), array)
    for content, rank, message in [
        (idx(array), 1, "not an IDX file of 1 dimensions"),
        (gzip.compress(gzip.decompress(idx(array))[:-1]), 3, "cut short"),
        (idx(array)[:-12], 3, "damaged"),
        (b"text", 3, "damaged"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=message):
            sources.read_idx(file, rank)


def test_idx_files_that_unfold_without_end_are_not(tmp_path):
    from etils import epath

    file = epath.Path(tmp_path / "x.gz")
    header = bytes([0, 0, 8, 3]) + (60_000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    for content in (
        gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12),
        gzip.compress(header + bytes(2**27)),
        gzip.compress(header[:9]),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match="not an IDX file of 3 dimensions, or is cut short"):
            sources.read_idx(file, 3)


def test_files_of_fashion_mnist_of_another_size_are_refused(tmp_path):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(random_image(0, 10, 28, 28)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(10, np.uint8)))
    cfg = DataConfig(name="fashion_mnist", path=str(tmp_path))
    assert "expected (60000, 28, 28)" in refused(cfg, load)


def test_what_never_ends_in_a_folder_of_images_is_refused(tmp_path):
    write_folder(tmp_path, {"train": 2, "test": 1})
    cfg = DataConfig(name="image_folder", path=str(tmp_path), resolution=8)
    os.mkfifo(tmp_path / "train" / "cat" / "pipe.png")
    assert "is no file" in refused(cfg, load)
    assert "is no file" in refused(cfg, data.fingerprint)


def test_a_photograph_of_another_size_is_named(tmp_path):
    for person in range(1, 41):
        (tmp_path / f"s{person}").mkdir()
        for number in range(1, 11):
            size = (92, 112) if (person, number) != (7, 2) else (10, 12)
            Image.new("L", size).save(tmp_path / f"s{person}" / f"{number}.pgm")
    said = refused(DataConfig(name="orl_faces", path=str(tmp_path)), load)
    assert "s7/2.pgm has 12x10 pixels" in said


@pytest.mark.parametrize("name", ["os.system", "antigravity.fly", 3])
def test_features_of_a_prepared_set_name_no_other_library(tmp_path, name):
    features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    image = encode(random_image(0, 8, 8, 3))
    store("tiny", features, {"train": [{"image": image, "label": 0}]}, tmp_path)
    file = tmp_path / "tiny" / "1.0.0" / "features.json"
    values = json.loads(file.read_text())
    values["pythonClassName"] = name
    file.write_text(json.dumps(values))
    before = set(sys.modules)
    said = refused(DataConfig(name="tiny", path=str(tmp_path), validation=0.5))
    assert "expected features of tensorflow_datasets" in said
    assert "antigravity" not in set(sys.modules) - before


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("content", ["", "{", "[" * 10**5, "null", '{"splits": [{"shardLengths": ["x"]}]}'])
def test_a_prepared_set_that_is_damaged_is_named(tmp_path, file, content):
    features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    store("tiny", features, {"train": [{"image": encode(random_image(0, 8, 8, 3)), "label": 0}]}, tmp_path)
    (tmp_path / "tiny" / "1.0.0" / file).write_text(content)
    assert "tiny" in refused(DataConfig(name="tiny", path=str(tmp_path), validation=0.5))
