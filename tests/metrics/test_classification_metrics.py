"""Metrics of classification against scikit-learn, and worked numbers for what it leaves open: ties, nan, big counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research import metrics
from research.errors import UserError
from tests.drawing import draw

B, K = 40, 6
seeds = st.integers(0, 2**32 - 1)


def _host(accumulator: Any) -> Any:
    return jax.tree.map(np.asarray, accumulator)


def _single(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    logits, labels, _ = draw("class labels", "index", seed=seed, b=B, k=K)
    # Few kinds of label, so that some class is often missing: the zero denominators.
    return np.asarray(logits), np.asarray(labels) % (1 + seed % K), np.ones(B, np.float32)


def _check_against_scikit_learn(outcomes: metrics.Decisions, truth: np.ndarray, predicted: np.ndarray) -> None:
    for average in (None, "macro", "micro", "weighted"):
        expected = sklearn.metrics.precision_recall_fscore_support(
            truth, predicted, labels=range(K), average=average, zero_division=0
        )
        for function, value in zip((metrics.precision, metrics.recall, metrics.f1), expected, strict=False):
            # Both in float64, a few operations each.
            np.testing.assert_allclose(function(_host(outcomes), average=average), value, rtol=1e-12)
            # The same on the device, compiled, in float32.
            on_device = jax.jit(function, static_argnames="average")(outcomes, average=average)
            np.testing.assert_allclose(on_device, value, rtol=1e-6)


@settings(max_examples=30)
@given(seed=seeds)
@example(seed=1_354_461_400)  # a label of probability 7e-8
def test_one_class_per_example_against_scikit_learn(seed: int) -> None:
    logits, labels, mask = _single(seed)
    predicted = logits.argmax(axis=-1)
    confusion = metrics.confusion_matrix(logits, labels, mask)
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(K))
    np.testing.assert_array_equal(confusion.matrix, expected)
    _check_against_scikit_learn(metrics.per_class(confusion), labels, predicted)
    for k in (1, 2, 5):
        share = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(K))
        assert float(metrics.average(_host(metrics.top_k(logits, labels, mask, k=k)))) == pytest.approx(
            share, rel=1e-12
        )
    # By SciPy, in float64: JAX would make it float32, whose probabilities below 1e-7 scikit-learn clips.
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(
        metrics.average(metrics.negative_log_likelihood(logits, labels, mask)),
        sklearn.metrics.log_loss(labels, probabilities, labels=range(K)),
        rtol=1e-5,  # a mean of 40 float32 values
    )


@settings(max_examples=30)
@given(seed=seeds)
def test_any_number_of_classes_against_scikit_learn(seed: int) -> None:
    logits, labels, _ = (np.asarray(a) for a in draw("binary labels", "several", seed=seed, b=B, k=K))
    labels = labels * (np.arange(K) < 1 + seed % K)[None]
    mask = np.ones(B, np.float32)
    truth, predicted = labels.astype(int), (logits > 0).astype(int)
    outcomes = metrics.decisions(logits, labels, mask)
    table = sklearn.metrics.multilabel_confusion_matrix(truth, predicted)
    np.testing.assert_array_equal(outcomes.true_positive, table[:, 1, 1])
    np.testing.assert_array_equal(outcomes.false_positive, table[:, 0, 1])
    np.testing.assert_array_equal(outcomes.false_negative, table[:, 1, 0])
    _check_against_scikit_learn(outcomes, truth, predicted)
    share = metrics.average(_host(metrics.subset_accuracy(logits, labels, mask)))
    assert float(share) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted), rel=1e-12)


def _top(logits: list[float], label: int, k: int) -> float:
    seen = metrics.top_k(jnp.asarray([logits]), jnp.asarray([label]), jnp.ones(1), k=k)
    return float(metrics.average(seen))


def test_equal_logits_rank_by_class_index() -> None:
    assert [_top([1.0, 1.0, 1.0], label, 1) for label in range(3)] == [1, 0, 0]
    assert [_top([1.0, 1.0, 1.0], label, 2) for label in range(3)] == [1, 1, 0]
    assert [_top([0.0, 2.0, 2.0], label, 2) for label in range(3)] == [0, 1, 1]
    confusion = metrics.confusion_matrix(jnp.ones((1, 3)), jnp.asarray([2]), jnp.ones(1))
    np.testing.assert_array_equal(confusion.matrix, [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_as_many_guesses_as_classes_are_always_right() -> None:
    assert [_top([3.0, 2.0, 1.0], label, k) for label in range(3) for k in (3, 5, 1000)] == [1] * 9


def test_what_is_not_a_number_is_never_right() -> None:
    nan = float("nan")
    assert _top([nan, nan, nan], 0, 1) == 0
    assert _top([nan, 1.0, 2.0], 0, 3) == 0
    assert _top([nan, 1.0, 2.0], 2, 1) == 1


def test_a_count_stays_exact_where_float32_would_not() -> None:
    # 2^24 + 1 is the first whole number that float32 does not have.
    many = metrics.Mean(jnp.asarray(2**24, jnp.int32), jnp.asarray(2**24, jnp.int32))
    one = metrics.top_k(jnp.asarray([[1.0, 0.0]]), jnp.asarray([0]), jnp.ones(1))
    assert metrics.merge(many, one) == (2**24 + 1, 2**24 + 1)


def test_one_output_decides_yes_or_no() -> None:
    outcomes = metrics.decisions(jnp.asarray([[2.0], [-1.0], [3.0], [0.0]]), jnp.asarray([1, 1, 0, 0]), jnp.ones(4))
    assert [int(counts[0]) for counts in outcomes] == [1, 1, 1]
    assert float(metrics.f1(outcomes, average="macro")) == 0.5


def test_an_unknown_metric_is_refused_with_its_nearest_names() -> None:
    with pytest.raises(UserError, match=r"unknown metric 'confusion'; nearest: .*confusion_matrix"):
        metrics.get("confusion")
    with pytest.raises(AttributeError, match="no attribute 'confusion'"):
        _ = metrics.confusion
