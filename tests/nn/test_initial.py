"""Initial values are left out where only shapes are wanted, and nowhere else."""

import threading

import jax
import jax.numpy as jnp
import pytest

from research.errors import UserError
from research.nn import initial
from research.nn.conv import HE_FAN_OUT, Conv
from research.scaling import complexity

IMAGES = jnp.zeros((1, 4, 4, 3))


def kernel() -> jax.Array:
    return Conv(2, 3).init(jax.random.key(0), IMAGES)["params"]["kernel"]


def test_within_shapes_only_a_kernel_is_zeros_of_its_shape() -> None:
    with initial.shapes_only():
        inside = kernel()
        assert initial.values(HE_FAN_OUT) is not HE_FAN_OUT
    assert inside.shape == (3, 3, 3, 2)
    assert not jnp.any(inside)
    assert jnp.all(kernel() != 0)
    assert initial.values(HE_FAN_OUT) is HE_FAN_OUT


def test_counting_leaves_initial_values_as_they_are_even_where_it_fails() -> None:
    complexity.count(Conv(2, 3), IMAGES.shape)
    assert jnp.all(kernel() != 0)
    with pytest.raises(UserError, match="smaller than"):
        complexity.count(Conv(2, 9, padding=0), IMAGES.shape)
    assert jnp.all(kernel() != 0)


def test_a_run_that_starts_in_another_thread_meanwhile_has_its_values() -> None:
    found = []
    with initial.shapes_only():
        thread = threading.Thread(target=lambda: found.append(kernel()))
        thread.start()
        thread.join()
    assert jnp.all(found[0] != 0)
