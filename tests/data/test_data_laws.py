"""Laws of every data set, found by discovery: what `info` says is what is there, and each example is seen once."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import data
from research.config import DataConfig
from research.data import splits


def head(feeds, count):
    return list(itertools.islice(feeds, count))


def same(one, other):
    return all(np.array_equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)


def classes(arrays: Any, info: Any) -> np.ndarray:
    """What a choice is stratified by: the class, also where labels say more; points have none."""
    labels = np.asarray(arrays["label"])
    if info.labels == "landmarks":
        return np.zeros(len(labels), np.int64)
    return labels[:, 5:].argmax(axis=1) if info.labels == "object" else labels


def test_info_is_what_the_arrays_are(row, loaded):
    info, arrays = data.info(row), loaded.resident
    assert info == loaded.info
    assert len(info.class_names) == len(set(info.class_names)) == info.num_classes
    for split, count in (("train", info.train_examples), ("eval", info.eval_examples)):
        images, labels = arrays[split]["image"], arrays[split]["label"]
        assert images.shape == (count, *info.shape)
        assert images.dtype == np.uint8
        expected = data.label_shape(info, count)
        assert (labels.shape, labels.dtype) == (expected.shape, expected.dtype)
        if info.labels != "landmarks":
            assert 0 <= classes(arrays[split], info).min() <= classes(arrays[split], info).max() < info.num_classes
    assert data.summaries()[row.name]


def test_loading_again_gives_the_same_bytes(row, loaded):
    again = data.pipeline(loaded.config, seed=3).resident
    jax.tree.map(np.testing.assert_array_equal, again, loaded.resident)
    assert data.fingerprint(row) == data.fingerprint(row)


def test_normalised_training_images_have_mean_0_and_deviation_1(loaded):
    images = loaded.resident["train"]["image"].astype(np.float64)
    normalised = (images - loaded.resident["mean"]) / loaded.resident["std"]
    # float32 statistics of values up to 255: relative 6e-8, against deviations of 30 and more.
    np.testing.assert_allclose(normalised.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_each_epoch_has_each_example_once_at_any_batch_size(loaded):
    count, size = loaded.info.train_examples, loaded.config.batch_size
    feeds = head(loaded.train(0), -(-2 * count // size))
    assert all(f[key].shape == (size,) for f in feeds for key in f)
    index, epoch = (np.concatenate([f[key] for f in feeds]) for key in ("index", "epoch"))
    np.testing.assert_array_equal(epoch, np.arange(len(epoch)) // count)
    epochs = [index[epoch == number] for number in (0, 1)]
    for order in epochs:
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
    assert not np.array_equal(*epochs)
    assert all(f["mask"].all() for f in feeds)


def test_training_resumes_at_any_step(loaded):
    steps = loaded.info.train_examples // loaded.config.batch_size
    whole = head(loaded.train(0), 2 * steps + 1)
    for start in {0, 1, steps - 1, steps, steps + 1, 2 * steps}:
        for one, other in zip(head(loaded.train(start), 3), whole[start:], strict=False):
            assert same(one, other)


def test_held_out_examples_are_stratified_and_disjoint(row, loaded):
    share = 0.25
    part = data.pipeline(dataclasses.replace(row, batch_size=1, validation=share), seed=0)
    labels, count = classes(loaded.resident["train"], loaded.info), loaded.info.train_examples
    assert part.info.eval_examples == round(share * count)
    assert part.info.train_examples == count - part.info.eval_examples
    bytes_of = {s: sorted(i.tobytes() for i in part.resident[s]["image"]) for s in ("train", "eval")}
    together = sorted(bytes_of["train"] + bytes_of["eval"])
    assert together == sorted(i.tobytes() for i in loaded.resident["train"]["image"])
    kept = np.bincount(classes(part.resident["eval"], loaded.info), minlength=loaded.info.num_classes)
    assert np.all(np.abs(kept - share * np.bincount(labels, minlength=loaded.info.num_classes)) < 1)


def test_a_training_subset_is_balanced_nested_and_ignores_the_run_seed(row, loaded):
    small, large = (
        data.pipeline(dataclasses.replace(row, batch_size=1, train_examples=n), seed=s).resident["train"]
        for n, s in ((11, 0), (17, 9))
    )
    assert {i.tobytes() for i in small["image"]} <= {i.tobytes() for i in large["image"]}
    counts = np.bincount(classes(large, loaded.info), minlength=loaded.info.num_classes)
    available = np.bincount(classes(loaded.resident["train"], loaded.info), minlength=loaded.info.num_classes)
    assert counts.sum() == 17
    # No class is more than one short of another while it still has examples to give.
    assert np.all((counts >= counts.max() - 1) | (counts == available))


@pytest.fixture(scope="module")
def digits():
    return data.pipeline(DataConfig(batch_size=32), seed=0)


@settings(max_examples=40)
@given(size=st.integers(1, 2000), split=st.sampled_from(["train", "eval"]))
def test_evaluation_covers_exactly_once_at_any_batch_size(digits, size, split):
    count = len(digits.resident[split]["label"])
    feeds = list(digits.evaluate(split, size))
    assert all(f[key].shape == (size,) for f in feeds for key in f)
    assert {key: f.dtype for f in feeds for key, f in f.items()} == {
        "index": np.int32,
        "epoch": np.int32,
        "mask": np.float32,
    }
    index, mask = (np.concatenate([f[key] for f in feeds]) for key in ("index", "mask"))
    assert set(mask) <= {0.0, 1.0}
    np.testing.assert_array_equal(index[mask == 1], np.arange(count))
    assert np.all((index >= 0) & (index < count))
    assert len(feeds) == -(-count // size)


def test_order_depends_on_seed_and_epoch_and_shuffle_only(digits):
    other = data.pipeline(DataConfig(batch_size=32), seed=1)
    assert not same(next(digits.train(0)), next(other.train(0)))
    jax.tree.map(np.testing.assert_array_equal, digits.resident["train"], other.resident["train"])
    straight = data.pipeline(DataConfig(batch_size=32, shuffle=False), seed=1)
    np.testing.assert_array_equal(next(straight.train(44))["index"], np.arange(44 * 32, 45 * 32) % 1438)


def test_the_order_of_batches_that_span_epochs_worked_example():
    """3 examples in batches of 5: epoch 0 is places 0 to 2 of the first batch, epoch 1 the rest and one of the next."""
    pipeline = data.pipeline(DataConfig(train_examples=3, batch_size=5), seed=7)
    first, second = head(pipeline.train(0), 2)
    orders = [splits.order(3, 7, epoch) for epoch in range(4)]
    np.testing.assert_array_equal(first["index"], [*orders[0], *orders[1][:2]])
    np.testing.assert_array_equal(second["index"], [orders[1][2], *orders[2], orders[3][0]])
    np.testing.assert_array_equal(first["epoch"], [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(second["epoch"], [1, 2, 2, 2, 3])


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any),
    data_=st.data(),
)
def test_shares_add_up_within_what_there_is(counts, data_):
    counts = np.array(counts)
    total = data_.draw(st.integers(0, int(counts.sum())))
    even = splits.balanced(counts, total)
    assert even.sum() == total
    assert np.all(even <= counts)
    assert np.all((even >= even.max() - 1) | (even == counts))
    prorated = splits.proportional(counts, total)
    assert prorated.sum() == total
    assert np.all(prorated <= counts)
    assert np.all(np.abs(prorated - counts * total / counts.sum()) < 1)


def test_shares_worked_example():
    np.testing.assert_array_equal(splits.balanced(np.array([1, 10, 10]), 10), [1, 5, 4])
    np.testing.assert_array_equal(splits.proportional(np.array([5, 3, 2]), 4), [2, 1, 1])


def test_orders_of_different_salts_differ():
    """NumPy's SeedSequence alone takes (1,) and (1, 0) for the same."""
    orders = [tuple(splits.order(50, *salt)) for salt in ((1,), (1, 0), (0, 1), (2**32,), ("1",))]
    assert len(set(orders)) == len(orders)
    assert all(sorted(order) == list(range(50)) for order in orders)
