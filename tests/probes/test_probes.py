"""Probes against what they are by definition, on a small residual and a small plain network."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import models, probes
from research.errors import UserError
from research.probes import Subject
from research.testing import model_laws

LABELS = jnp.arange(6) % 4


@functools.cache
def subject(name: str, side: int = 8, **fields: Any) -> Subject:
    """A network with weights of its own and 6 images of 8 pixels."""
    model = models.create(name, num_classes=4, **fields)
    _, shapes = model_laws.initial_shapes(model, (side, side, 3))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((6, side, side, 3), np.float32))
    return Subject(
        model,
        model_laws.fill(shapes),
        images,
        loss=lambda outputs: optax.softmax_cross_entropy_with_integer_labels(outputs, LABELS),
        error=lambda outputs: (outputs.argmax(-1) != LABELS).astype(jnp.float32),
    )


def probed(name: str, of: Subject) -> dict[str, jax.Array]:
    """What a probe finds, compiled; in its own order, which JAX does not keep."""
    order: list[str] = []

    def probe(variables: Any) -> dict[str, jax.Array]:
        found = probes.get(name)(dataclasses.replace(of, variables=variables))
        order.extend(found)
        return found

    found = jax.jit(probe)(of.variables)
    return {layer: found[layer] for layer in order}


@pytest.mark.parametrize("probe", probes.names())
@pytest.mark.parametrize("network", ["resnet8", "plain8", "lenet5"])
def test_every_probe_gives_finite_numbers_of_any_network(probe: str, network: str) -> None:
    of = subject(network, side=16) if network == "lenet5" else subject(network, width=4)
    found = probed(probe, of)
    assert all(value.shape == () and value.dtype == jnp.float32 and jnp.isfinite(value) for value in found.values())
    assert bool(found) == (probe != "block_deletion_errors" or network != "lenet5")


def test_gradient_norms_are_those_of_the_loss_of_the_mean() -> None:
    """Moving one kernel against its gradient lowers the loss by step x norm squared, to first order."""
    of = subject("resnet8", width=4)
    norms, name = probed("gradient_norms", of), "stage2_block1/conv1"

    def loss(params: Any) -> jax.Array:
        return jnp.mean(of.loss(of.in_training({**of.variables, "params": params}, jax.random.key(0))))

    params = of.variables["params"]
    gradient = jax.grad(loss)(params)["stage2_block1"]["conv1"]["kernel"]
    assert norms[name] == pytest.approx(float(jnp.linalg.norm(gradient)), rel=1e-5)
    assert (next(iter(norms)), list(norms)[-1]) == ("stem/conv", "head")
    assert list(norms).index(name) == 3
    assert len(norms) == 8  # weighted layers; shortcuts of option A have none


def test_responses_are_the_deviations_of_what_norms_give() -> None:
    """With the statistics of the batch a norm gives deviation 1 times its scale, of every channel."""
    of = subject("resnet8", width=4)
    found = probed("response_deviations", of)
    assert list(found)[:3] == ["stem/norm", "stage1_block1/norm1", "stage1_block1/norm2"]
    assert len(found) == 7
    own = of.variables["params"]["stage1_block1"]["norm1"]
    scale, bias = own["scale"], own["bias"]
    # Of normalised channels: mean square of scales, and the spread of the biases; epsilon takes a little.
    expected = float(jnp.sqrt(jnp.mean(scale**2) + jnp.var(bias)))
    assert found["stage1_block1/norm1"] == pytest.approx(expected, rel=2e-2)


def test_without_a_block_is_the_network_with_that_block_silenced() -> None:
    """The last norm's scale and bias at 0 leave relu(x), which is x after a relu: the block's identity."""
    of = subject("resnet14", width=4)
    errors = probed("block_deletion_errors", of)
    assert list(errors) == [
        f"stage{stage}_block{n}" for stage in (1, 2, 3) for n in (1, 2) if (stage, n) != (2, 1) and (stage, n) != (3, 1)
    ]
    for name, error in errors.items():
        params = dict(of.variables["params"])
        silent = jax.tree.map(jnp.zeros_like, params[name]["norm2"])
        params[name] = {**params[name], "norm2": silent}
        outputs = of.model.apply({**of.variables, "params": params}, of.images, train=False)
        assert isinstance(outputs, jax.Array)
        assert error == pytest.approx(float(jnp.mean(of.error(outputs)))), name


def test_unknown_probes_name_the_nearest() -> None:
    with pytest.raises(UserError, match="nearest: gradient_norms"):
        probes.get("gradient_norm")
