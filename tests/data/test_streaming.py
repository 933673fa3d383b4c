"""Laws of streaming: the batches of the resident input, bit for bit, whoever reads them and wherever they start."""

import collections
import dataclasses
import gc
import io
import itertools
import logging
import multiprocessing
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from research import data
from research.config import AugmentationConfig, DataConfig
from research.data import crops, examples
from research.data.streaming import Feeds
from research.errors import RunFailed, UserError
from tests.data.conftest import encode, random_image, store, write_folder

AUGMENTATION = AugmentationConfig(flip=True, pad_and_crop=2)


def pipeline(cfg, source="streaming", augmentation=AUGMENTATION, seed=3, **fields):
    host = fields.pop("host", data.Host())
    return data.pipeline(dataclasses.replace(cfg, input=source, **fields), augmentation, seed=seed, host=host)


def head(feeds, count):
    """The first few, and the readers behind the iterator ended."""
    found = list(itertools.islice(feeds, count))
    feeds.close()
    return found


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype
        np.testing.assert_array_equal(one[key], other[key])


def workers_left():
    """Processes that this one started and that have not ended, waiting a little for the last of them."""
    for _ in range(100):
        if not multiprocessing.active_children():
            break
        time.sleep(0.1)
    return multiprocessing.active_children()


# --- the same as in memory


def assert_equal_inputs(cfg, steps, size):
    """Feeds and batches at these training steps, and in the evaluation of both splits, are the resident input's."""
    resident, streamed = pipeline(cfg, "resident"), pipeline(cfg)
    assert (streamed.info, resident.info) == (data.info(cfg), data.info(cfg))
    for key in ("mean", "std", "seed"):
        assert_same({key: streamed.resident[key]}, {key: resident.resident[key]})
    runs = [(split, False, lambda p, s=split: itertools.islice(p.evaluate(s, size), 3)) for split in ("train", "eval")]
    runs += [("train", True, lambda p, at=step: head(p.train(at), 2)) for step in steps]
    fetched = [jax.jit(p.fetch, static_argnames=("split", "augment")) for p in (resident, streamed)]
    for split, augment, feeds in runs:
        for one, other in zip(feeds(resident), feeds(streamed), strict=True):
            assert_same(one, {key: other[key] for key in ("index", "epoch", "mask")})
            assert other["image"].dtype == np.uint8
            arrays = [p.resident for p in (resident, streamed)]
            batches = [
                fetch(array, feed, split=split, augment=augment)
                for fetch, array, feed in zip(fetched, arrays, (one, other), strict=True)
            ]
            assert_same(*batches)


def test_every_data_set_streams_what_it_holds_in_memory(row):
    count = data.info(row).train_examples
    assert_equal_inputs(dataclasses.replace(row, batch_size=8), (0, count // 8, 3 * count // 8), 8)


@pytest.mark.parametrize("name", ["image_folder", "cifar10", "synthetic"])
@pytest.mark.parametrize(
    "fields",
    [
        {"validation": 0.3},
        {"train_examples": 13},
        {"validation": 0.3, "train_examples": 13, "resolution": 6, "crop_fraction": 0.75, "channels": 1},
        {"resolution": 40, "fit": "pad", "mean": (1.0, 2.0, 3.0)},
    ],
)
def test_subsets_and_forms_stream_what_they_hold_in_memory(config_of, name, fields):
    assert_equal_inputs(dataclasses.replace(config_of(name), batch_size=5, **fields), (0, 2), 5)


def test_several_labels_stream(tmp_path):
    kinds = tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4))
    features = {"image": tfds.features.Image(shape=(4, 4, 3)), "labels": kinds}
    made = [{"image": encode(random_image(i, 4, 4, 3)), "labels": [i % 4, 3]} for i in range(12)]
    store("several", features, {"train": made[:9], "test": made[9:]}, tmp_path)
    cfg = DataConfig(name="several", path=str(tmp_path), batch_size=4)
    assert_equal_inputs(cfg, (0, 2), 2)
    assert next(pipeline(cfg).train(0))["label"].sum(axis=1).max() == 2


def test_a_resized_image_that_has_the_size_already_is_cropped_in_both():
    """The centre of 8 of an 8x8 image enlarged to 9 is not the image."""
    cfg = DataConfig(name="digits", resolution=8, crop_fraction=0.89, batch_size=4)
    assert_equal_inputs(cfg, (0,), 4)
    images = [pipeline(c, "resident").resident["train"]["image"] for c in (cfg, DataConfig(name="digits"))]
    assert not np.array_equal(*images)


# --- each example once per epoch, whoever reads it


@settings(max_examples=25)
@given(
    count=st.integers(10, 40),
    share=st.integers(1, 12),
    hosts=st.integers(1, 4),
    epochs=st.integers(1, 3),
    start=st.integers(0, 60),
)
def test_each_epoch_has_every_example_once_and_any_start_continues(count, share, hosts, epochs, start):
    size = share * hosts
    steps = -(-count * epochs // size)
    cfg = DataConfig(name="synthetic", train_examples=count, batch_size=size, mean=(0.0,) * 3, std=(1.0,) * 3)
    of_host = [pipeline(cfg, host=data.Host(i, hosts)) for i in range(hosts)]
    feeds = [head(p.train(0), steps) for p in of_host]
    whole = [{key: np.concatenate([f[i][key] for f in feeds]) for key in feeds[0][0]} for i in range(steps)]
    for one, other in zip(whole, head(pipeline(cfg).train(0), steps), strict=True):
        assert_same(one, other)  # together the hosts have the batch of one
    seen = list(zip(*(np.concatenate([f[key] for f in whole]).tolist() for key in ("epoch", "index")), strict=True))
    every = [(epoch, index) for epoch in range(epochs) for index in range(count)]
    assert sorted(seen[: len(every)]) == every
    assert all(f["mask"].all() and len(f["mask"]) == share for host in feeds for f in host)
    for source in ("streaming", "resident"):
        some = pipeline(cfg, source, host=data.Host(hosts - 1, hosts))
        resumed, through = head(some.train(start), 2), head(some.train(0), start + 2)[start:]
        for one, other in zip(resumed, through, strict=True):
            assert_same(one, other)


@settings(max_examples=25)
@given(
    count=st.integers(10, 40),
    share=st.integers(1, 30),
    hosts=st.integers(1, 4),
    split=st.sampled_from(["train", "eval"]),
)
def test_evaluation_reads_each_example_once_at_any_batch_size_and_number_of_hosts(count, share, hosts, split):
    cfg = DataConfig(name="synthetic", train_examples=count, mean=(0.0,) * 3, std=(1.0,) * 3)
    size, there = share * hosts, {"train": count, "eval": 500}[split]
    feeds = [list(pipeline(cfg, host=data.Host(i, hosts)).evaluate(split, size)) for i in range(hosts)]
    assert {len(f) for f in feeds} == {-(-there // size)}  # every host takes part in every batch
    assert all(len(value) == share for host in feeds for f in host for value in f.values())
    whole = [f for together in zip(*feeds, strict=True) for f in together]
    index, mask = (np.concatenate([f[key] for f in whole]) for key in ("index", "mask"))
    np.testing.assert_array_equal(index[mask == 1], np.arange(there))
    assert not mask[there:].any()
    assert not index[there:].any()


# --- worker processes


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files of many sizes, so that training images are cut on the host."""
    root = write_folder(tmp_path_factory.mktemp("photos"), {"train": 9, "test": 4})
    Image.fromarray(random_image(0, 30, 21, 3)).save(root / "train/dog/3.png")
    return DataConfig(name="image_folder", path=str(root), resolution=8, batch_size=5, validation=0.2)


CROPS = AugmentationConfig(random_resized_crop=True, flip=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_gives_the_bits_of_none(photos, workers):
    alone, many = pipeline(photos, augmentation=CROPS), pipeline(photos, augmentation=CROPS, workers=workers)
    feeds = many.train(3)
    for one, other in zip(head(alone.train(3), 9), itertools.islice(feeds, 9), strict=True):
        assert_same(one, other)
    assert len(multiprocessing.active_children()) == workers
    if workers == 1:
        feeds.close()
    del feeds
    gc.collect()
    assert not workers_left()
    for one, other in zip(alone.evaluate("train", 4), many.evaluate("train", 4), strict=True):
        assert_same(one, other)
    assert not workers_left()


def test_a_look_at_one_feed_starts_no_process_and_a_dead_one_is_named(photos):
    feeds = pipeline(photos, workers=2).train(0)
    next(feeds)
    assert not multiprocessing.active_children()
    next(feeds), next(feeds)  # one of each: both are past their start
    found = multiprocessing.active_children()
    assert len(found) == 2
    for process in found:  # as a scheduler or Ctrl-C does to all at once: the answer is the training process's
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    for _ in range(6):
        next(feeds)
    os.kill(found[0].pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match=r"a process that reads data ended.*exit code -9"):
        head(feeds, 20)
    assert not workers_left()


KILLED = """
import multiprocessing, sys, time
from research import data
from research.config import DataConfig
if __name__ == "__main__":
    cfg = DataConfig(name="image_folder", path=sys.argv[1], batch_size=2, input="streaming", workers=2)
    feeds = data.pipeline(cfg, seed=0).train(0)
    next(feeds), next(feeds)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    if sys.argv[2] == "wait":
        time.sleep(600)
"""


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("end", ["wait", "return"])
def test_no_worker_outlives_the_process_that_trains(tmp_path, end):
    """Killed (`wait`), or at its end with an iterator still open (`return`)."""
    root, script = write_folder(tmp_path / "images", {"train": 3, "test": 1}), tmp_path / "run.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(root), end]
    paths = os.pathsep.join(path for path in sys.path if path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as run:
        workers = [int(word) for word in run.stdout.readline().split()]
        assert len(workers) == 2
        if end == "wait":
            assert all(map(running, workers))
            run.kill()
    for _ in range(200):  # they notice within one step of their own
        if not any(map(running, workers)):
            break
        time.sleep(0.1)
    assert not any(map(running, workers))


def test_shared_memory_is_given_back(photos):
    maps = pathlib.Path("/proc/self/maps")

    def blocks():
        """Those that are mapped into this process (looked for where Linux lists them)."""
        return set(re.findall(r"/dev/shm/psm_\w+", maps.read_text())) if maps.exists() else set()

    before, many = blocks(), pipeline(photos, workers=2)
    kept = [list(many.evaluate("train", 3)), head(many.train(0), 6)]
    assert all(feed["image"].base is None for feeds in kept for feed in feeds)
    for _ in range(50):  # a thread of Grain's gives back, in its own time
        if blocks() <= before:
            break
        time.sleep(0.1)
    assert blocks() <= before


@pytest.mark.parametrize("split", ["train", "eval"])
def test_what_is_sent_to_a_worker_is_small_and_reads_the_same(row, split):
    """Not even positions travel where a split is used whole; ImageNet's would be 10 MB to each."""
    whole = pipeline(row, batch_size=4)
    feeds = Feeds(whole.parts[split], whole.info, 3, data.Host(), 4, training=split == "train")
    # Names of 1,000 classes are 20 kB.
    sent = pickle.dumps(feeds)
    assert len(sent) < 4096 + 40 * whole.info.num_classes
    assert_same(pickle.loads(sent)[7 if split == "train" else 1], feeds[7 if split == "train" else 1])


# --- host crops


def test_files_are_cropped_on_the_host_for_training_alone(photos):
    cut, plain = (pipeline(photos, augmentation=a) for a in (CROPS, AugmentationConfig(flip=True)))
    assert cut.augmentation == plain.augmentation  # the rest is done inside the step
    feed = next(cut.train(13))
    assert set(feed["epoch"]) == {2, 3}  # 22 examples, batches of 5
    images, labels = cut.parts["train"].read(feed["index"])
    for place, image in enumerate(images):
        salt = (3, int(feed["epoch"][place]), int(feed["index"][place]))
        box = {"area": CROPS.crop_area, "ratio": CROPS.crop_ratio}
        expected = crops.random_resized_crop(image, size=(8, 8), channels=3, salt=salt, **box)
        np.testing.assert_array_equal(feed["image"][place], expected)
    np.testing.assert_array_equal(feed["label"], labels)
    for split in ("train", "eval"):
        for one, other in zip(cut.evaluate(split, 6), plain.evaluate(split, 6), strict=True):
            assert_same(one, other)
    for key in ("mean", "std"):
        np.testing.assert_array_equal(cut.resident[key], plain.resident[key])


def test_images_of_one_size_are_cropped_inside_the_step():
    cfg = DataConfig(name="synthetic", batch_size=4)
    streamed = pipeline(cfg, augmentation=CROPS)
    assert streamed.augmentation == CROPS
    assert_same(next(streamed.train(0)), next(pipeline(cfg, augmentation=AugmentationConfig()).train(0)))


def test_the_input_follows_the_data(photos, monkeypatch):
    plain, digits = AugmentationConfig(), DataConfig()
    assert data.input_of(photos, plain) == data.input_of(digits, CROPS) == "resident"
    assert data.input_of(photos, CROPS) == "streaming"
    assert isinstance(data.pipeline(photos, CROPS, seed=0), data.Streaming)
    assert data.input_of(dataclasses.replace(digits, input="streaming"), plain) == "streaming"
    large = DataConfig(resolution=1000)  # 1,797 MB
    assert data.input_of(large, plain) == "streaming"
    assert data.input_of(dataclasses.replace(large, input="resident"), plain) == "resident"
    with pytest.raises(UserError, match=r"random_resized_crop crops the files of image_folder.*data.input streaming"):
        data.pipeline(dataclasses.replace(photos, input="resident"), CROPS, seed=0)


# --- images that cannot be read

DAMAGE = {
    "truncated.jpg": lambda file, sound: file.write_bytes(sound[: len(sound) // 2]),
    "empty.jpg": lambda file, sound: file.write_bytes(b""),
    "text.jpg": lambda file, sound: file.write_text("this is no image"),
    "gone.jpg": lambda file, sound: file.symlink_to(file.parent / "nowhere"),
    "zeros.png": lambda file, sound: file.write_bytes(bytes(len(sound))),
}


def damage(root, names, splits=("train", "test")):
    """Files of the class dog that cannot be read, in each split."""
    written = io.BytesIO()
    Image.fromarray(random_image(1, 10, 14, 3)).save(written, "jpeg")
    for name, split in itertools.product(names, splits):
        DAMAGE[name](root / split / "dog" / name, written.getvalue())
    return root


def folder(tmp_path, names, **fields):
    root = damage(write_folder(tmp_path, {"train": 5, "test": 2}), names)
    return DataConfig(name="image_folder", path=str(root), batch_size=4, resolution=8, **fields)


@pytest.mark.parametrize(("source", "workers"), [("resident", 0), ("streaming", 0), ("streaming", 2)])
def test_skipped_images_count_as_no_example(tmp_path, caplog, source, workers):
    cfg = folder(tmp_path / "some", DAMAGE, corrupt="skip", workers=workers)
    sound = pipeline(folder(tmp_path / "sound", []), "resident")
    with caplog.at_level(logging.WARNING):
        some = pipeline(cfg, source)
        feeds = {"train": head(some.train(0), 10), "eval": list(some.evaluate("eval", 11))}  # 2 epochs of 20; 11
    for key in ("mean", "std"):  # of the readable ones
        np.testing.assert_array_equal(some.resident[key], sound.resident[key])
    # Within a class files come in order of name, and digits before letters; the class dog is the second of three.
    damaged = {"train": dict.fromkeys(range(10, 15), 2), "eval": dict.fromkeys(range(4, 9), 1)}
    for split, found in feeds.items():
        index, mask = (np.concatenate([f[key] for f in found]) for key in ("index", "mask"))
        assert collections.Counter(index[mask == 0].tolist()) == damaged[split]
        feed = next(f for f in found if not f["mask"].all())
        batch = some.fetch(some.resident, feed, split=split, augment=split == "train")
        shown = np.asarray(batch["image"]).any(axis=(1, 2, 3))  # 0 is the mean colour
        np.testing.assert_array_equal(shown, feed["mask"] == 1)
    told = collections.Counter(str(r.args[0]).split("/")[-1].split(" ")[0].rstrip("'") for r in caplog.records)
    assert told.keys() == DAMAGE.keys()
    if not workers:  # which else tell of some themselves
        assert told == dict.fromkeys(DAMAGE, 2)  # a file in each split, told of once


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("split", ["train", "eval"])
@pytest.mark.parametrize("source", ["resident", "streaming"])
def test_a_refused_image_is_named_in_one_line(tmp_path, name, split, source):
    cfg = folder(tmp_path, [], mean=(0.0,) * 3, std=(1.0,) * 3)
    where = {"train": "train", "eval": "test"}[split]
    damage(tmp_path, [name], [where])
    with pytest.raises(UserError) as error:
        read_all(pipeline(cfg, source), split)
    words = str(error.value)
    assert f"{where}/dog/{name}" in words
    assert words.endswith("; data.corrupt=skip leaves such images out")
    assert "\n" not in words


def read_all(some, split):
    feeds = some.train(0) if split == "train" else some.evaluate("eval", 2)
    return head(feeds, 20)


@pytest.mark.parametrize("split", ["train", "eval"])
def test_a_worker_refuses_in_the_same_words(tmp_path, split):
    cfg = folder(tmp_path, ["text.jpg"], mean=(0.0,) * 3, std=(1.0,) * 3)
    words = []
    for workers in (0, 2):
        with pytest.raises(UserError) as error:
            read_all(pipeline(cfg, workers=workers, batch_size=1), split)
        words.append(str(error.value))
    assert words[0] == words[1]
    assert not workers_left()


def test_measuring_meets_a_damaged_image_too(tmp_path):
    with pytest.raises(UserError, match=r"train/dog/empty.jpg is not a readable image.*data.corrupt=skip"):
        pipeline(folder(tmp_path, ["empty.jpg"]))


@pytest.mark.parametrize("source", ["resident", "streaming"])
def test_damaged_records_are_named_by_their_number(tmp_path, source):
    features = {"image": tfds.features.Image(shape=(4, 4, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
    made = [{"image": encode(random_image(i, 4, 4, 3)), "label": i % 2} for i in range(8)]
    made[4]["image"] = io.BytesIO(b"this is no image")
    store("torn", features, {"train": made[:6], "test": made[6:]}, tmp_path)
    cfg = DataConfig(name="torn", path=str(tmp_path), batch_size=3)
    with pytest.raises(UserError, match=r"example \d of .*torn/1.0.0, split train is not a readable image") as error:
        read_all(pipeline(cfg, source), "train")
    number = int(str(error.value).split("example ")[1].split(" ")[0])
    feeds = read_all(pipeline(cfg, source, corrupt="skip"), "train")
    assert {int(i) for f in feeds for i in f["index"][f["mask"] == 0]} == {number}


def test_exact_sums_make_grouping_irrelevant():
    images = random_image(2, 50, 7, 3)[..., None].repeat(3, axis=-1)
    whole = examples.statistics([images])
    for groups in (np.array_split(images, 7), [images[::-1]], [images[:1], images[1:]]):
        for one, other in zip(whole, examples.statistics(groups), strict=True):
            np.testing.assert_array_equal(one, other)
