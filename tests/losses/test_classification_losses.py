"""Losses of classification: closed forms and worked numbers, the reduction, and how a loss is named."""

import inspect
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import losses
from research.errors import UserError
from tests.drawing import draw

# Losses of one class per example (or of decisions, of which one class is a kind), and those that smooth its label.
ONE_OF_MANY = [
    name
    for name in losses.names()
    if list(losses.meanings(losses.get(name)).values())[1:] in (["class labels"], ["binary labels"])
]
SMOOTHED = [name for name in ONE_OF_MANY if "label_smoothing" in inspect.signature(losses.get(name)).parameters]


def test_worked_numbers() -> None:
    # -log(e^3 / (e^1 + e^2 + e^3)) = log(1 + e^-1 + e^-2)
    loss = losses.softmax_cross_entropy(jnp.asarray([[1.0, 2.0, 3.0]]), jnp.asarray([2]))
    np.testing.assert_allclose(loss, math.log(1 + math.exp(-1) + math.exp(-2)), rtol=1e-6)
    # An undecided network pays log k for one of k classes, and log 2 for each yes/no question.
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(jnp.zeros((1, 10)), jnp.asarray([3])), math.log(10), rtol=1e-6
    )
    undecided = losses.sigmoid_binary_cross_entropy(jnp.zeros((1, 10)), jnp.ones((1, 10)))
    np.testing.assert_allclose(undecided, 10 * math.log(2), rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-100, 100, width=32))
def test_softmax_cross_entropy_ignores_a_shift_of_all_logits(seed: int, shift: float) -> None:
    logits, labels, _ = draw("class labels", "index", seed=seed)
    shifted = losses.softmax_cross_entropy(logits + np.float32(shift), labels)
    # Numbers near 100 are 8e-6 apart in float32, and the shift itself rounds the logits.
    np.testing.assert_allclose(shifted, losses.softmax_cross_entropy(logits, labels), atol=5e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_class_indices_equal_their_one_hot_rows(smoothing: float) -> None:
    logits, labels, _ = draw("class labels", "index", seed=1)
    for name in SMOOTHED:
        one, other = (
            losses.get(name)(logits, form, label_smoothing=smoothing) for form in (labels, jax.nn.one_hot(labels, 5))
        )
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # two formulas of one value


def test_label_smoothing_closed_forms() -> None:
    logits, labels, _ = draw("class labels", "index", seed=2)
    x, y, a = np.asarray(logits, np.float64), np.asarray(labels), 0.2
    log_softmax = x - np.log(np.exp(x).sum(axis=-1, keepdims=True))
    expected = -(1 - a) * log_softmax[np.arange(len(y)), y] - a * log_softmax.mean(axis=-1)
    np.testing.assert_allclose(losses.softmax_cross_entropy(logits, labels, label_smoothing=a), expected, rtol=1e-5)

    target = (1 - a) * np.eye(5)[y] + a / 2
    expected = (np.log1p(np.exp(x)) - target * x).sum(axis=-1)
    np.testing.assert_allclose(
        losses.sigmoid_binary_cross_entropy(logits, labels, label_smoothing=a), expected, rtol=1e-5
    )


def test_sigmoid_with_one_output_is_softmax_with_a_zero_beside_it() -> None:
    logits, labels, _ = draw("binary labels", "yes_or_no", seed=3)
    two = jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)
    np.testing.assert_allclose(
        losses.sigmoid_binary_cross_entropy(logits, labels),
        losses.softmax_cross_entropy(two, labels),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_class_that_does_not_exist_gives_nan_never_a_plausible_loss() -> None:
    for name in ONE_OF_MANY:
        for options in ({}, {"label_smoothing": 0.1}) if name in SMOOTHED else ({},):
            loss = losses.get(name)(jnp.zeros((2, 3)), jnp.asarray([3, 0]), **options)
            np.testing.assert_array_equal(np.isnan(loss), [True, False])


def test_masked_mean_divides_by_the_real_examples_and_an_empty_mask_gives_zero() -> None:
    values = jnp.asarray([1.0, 2.0, 30.0])
    assert float(losses.masked_mean(values, jnp.asarray([1.0, 1.0, 0.0]))) == 1.5
    assert float(losses.masked_mean(values, jnp.zeros(3))) == 0
    assert float(losses.masked_sum(values, jnp.asarray([0.0, 1.0, 1.0]))) == 32


def test_an_unknown_loss_is_refused_with_its_nearest_names() -> None:
    with pytest.raises(UserError, match=r"unknown loss 'softmax_crossentropy'; nearest: softmax_cross_entropy"):
        losses.get("softmax_crossentropy")
    with pytest.raises(AttributeError, match="no attribute 'softmax_crossentropy'"):
        _ = losses.softmax_crossentropy


def test_a_loss_of_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "my_losses.py"
    file.write_text("def squared(outputs, labels):\n    return (outputs[:, 0] - labels) ** 2\n\nTHREE = 3\n")
    loss = losses.get(f"{file}:squared")
    np.testing.assert_array_equal(loss(jnp.asarray([[2.0], [1.0]]), jnp.asarray([0.0, 1.0])), [4, 0])
    with pytest.raises(UserError, match="squard'; nearest: squared"):
        losses.get(f"{file}:squard")
    with pytest.raises(UserError, match="is 3; expected a function"):
        losses.get(f"{file}:THREE")
