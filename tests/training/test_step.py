"""The compiled steps: equal to the uncompiled one, across layouts, repeatable to the bit, and traced once."""

import contextlib
import dataclasses
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from research import data
from research.config import Config, ModelConfig, replace
from research.training import parallel, programs, resolve, state
from research.training.evaluation import Evaluator

# Without batch norm the network computes the same sums however the batch is split, up to the order of addition.
PLAIN = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "augmentation.pad_and_crop": 1,
        "augmentation.flip": True,
        "optimizer.learning_rate": 0.05,
        "budget.train": "5 steps",
        "parallelism.devices": 1,
    },
)
NORMALISED = replace(PLAIN, **{"model.name": "resnet8", "data.resolution": 8, "model.width": 4})


class Prepared:
    """A config with everything placed, so that steps can be taken one by one."""

    def __init__(self, cfg: Config) -> None:
        self.resolved = resolve.resolve(cfg)
        self.layout = self.resolved.layout
        self.pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=cfg.seed)
        self.state = programs.new_state(self.resolved, self.pipeline)
        self.resident = self.layout.replicate(self.pipeline.resident)
        self.step = programs.train_step(self.resolved, self.pipeline)
        self.rates = self.resolved.rates()

    def feeds(self, count: int):
        with contextlib.closing(self.pipeline.train(0)) as feeds:
            return list(itertools.islice(self.layout.ahead(feeds), count))

    def run(self, count: int = 5):
        """State after `count` compiled steps, on the host."""
        feeds, current = self.feeds(count), self.state
        compiled = programs.compile_train(self.resolved, self.pipeline, current, self.resident)
        for feed, rate in zip(feeds, self.rates[:count], strict=True):
            current, _ = compiled(current, self.resident, feed, self.layout.replicate(rate))
        return parallel.host(current)


def layout(cfg: Config, mode: str, devices: int, batch_norm: str = "synchronised") -> Config:
    return replace(
        cfg,
        **{"parallelism.mode": mode, "parallelism.devices": devices, "parallelism.batch_norm": batch_norm},
    )


def assert_relatively_close(one, other, tolerance: float) -> None:
    """Largest difference of each array, relative to the largest entry of that array."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


@pytest.fixture(scope="module")
def on_one_device():
    return Prepared(PLAIN).run()


def test_compiled_equals_uncompiled(on_one_device):
    prepared = Prepared(PLAIN)
    current = prepared.state
    for feed, rate in zip(prepared.feeds(5), prepared.rates, strict=True):
        current, _ = prepared.step(current, prepared.resident, feed, jnp.float32(rate))
    # The compiler fuses and reorders float32 additions: 1e-6 of the largest entry after five steps.
    assert_relatively_close(parallel.host(current.params), on_one_device.params, 1e-6)


def test_compiled_equals_uncompiled_with_batch_norm():
    prepared = Prepared(NORMALISED)
    current, _ = prepared.step(prepared.state, prepared.resident, prepared.feeds(1)[0], jnp.float32(prepared.rates[0]))
    # Dividing by the deviations of 32 examples magnifies rounding: 1e-4 of the largest entry after one step.
    assert_relatively_close(parallel.host(current.params), Prepared(NORMALISED).run(1).params, 1e-4)


@pytest.mark.parametrize(("mode", "devices"), [("jit", 4), ("pmap", 4), ("pmap", 1), ("jit", 2)])
def test_every_layout_gives_the_same_parameters(on_one_device, mode, devices):
    got = Prepared(layout(PLAIN, mode, devices)).run()
    # Only the order of the sum over the batch differs (measured: 1e-8 to 1e-7).
    assert_relatively_close(got.params, on_one_device.params, 1e-6)
    # Sums over 160 examples in float32, added in another order.
    chex.assert_trees_all_close(got.statistics, on_one_device.statistics, rtol=1e-5)


@pytest.mark.parametrize(("mode", "devices"), [("jit", 1), ("jit", 4), ("pmap", 4)])
def test_the_same_layout_gives_the_same_bits(mode, devices):
    one, other = (Prepared(layout(NORMALISED, mode, devices)).run(3) for _ in range(2))
    assert state.digest(one) == state.digest(other)


def test_synchronised_batch_norm_sees_the_global_batch_and_per_replica_its_own():
    whole = Prepared(layout(NORMALISED, "jit", 1)).run(2)
    for mode in ("jit", "pmap"):
        together = Prepared(layout(NORMALISED, mode, 4)).run(2)
        # Batch norm divides by small deviations, which magnifies rounding: 1e-4 where a lost synchronisation is > 1e-2.
        assert_relatively_close(together.batch_stats, whole.batch_stats, 1e-4)
        assert_relatively_close(together.params, whole.params, 1e-4)
    alone = {mode: Prepared(layout(NORMALISED, mode, 4, "per_replica")).run(2) for mode in ("jit", "pmap")}
    # Two compilations of the same sums, magnified by batch norm as above.
    assert_relatively_close(alone["jit"].params, alone["pmap"].params, 1e-4)
    leaves = zip(jax.tree.leaves(alone["jit"].batch_stats), jax.tree.leaves(whole.batch_stats), strict=True)
    assert max(np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in leaves) > 1e-2


def test_the_step_is_traced_once():
    prepared = Prepared(PLAIN)
    limited = jax.jit(chex.assert_max_traces(prepared.step, n=1))
    current = prepared.state
    for feed, rate in zip(prepared.feeds(3), prepared.rates[:3], strict=True):
        current, _ = limited(current, prepared.resident, feed, jnp.float32(rate))
    assert int(current.step) == 3


def test_seed_and_rate_are_not_in_the_program():
    texts = set()
    for seed, rate in ((0, 0.05), (7, 0.5)):
        prepared = Prepared(replace(PLAIN, **{"seed": seed, "optimizer.learning_rate": rate}))
        jaxpr = jax.make_jaxpr(prepared.step)(
            prepared.state, prepared.resident, prepared.feeds(1)[0], jnp.float32(rate)
        )
        texts.add(str(jaxpr))
    assert len(texts) == 1


def test_bfloat16_compute_keeps_float32_state():
    got = Prepared(replace(NORMALISED, **{"precision.compute": "bfloat16"})).run(2)
    chex.assert_tree_all_finite((got.params, got.batch_stats))
    assert {leaf.dtype for leaf in jax.tree.leaves((got.params, got.batch_stats))} == {np.dtype(np.float32)}


def evaluated(cfg: Config, batch_size: int) -> dict[str, object]:
    cfg = replace(cfg, **{"data.eval_batch_size": batch_size})
    prepared = Prepared(cfg)
    evaluator = Evaluator(prepared.resolved, prepared.pipeline, prepared.resident, "eval")
    evaluator.compile(prepared.state)
    (values,) = evaluator(prepared.state)
    return values


def test_evaluation_does_not_depend_on_batch_size_padding_or_devices():
    reference = evaluated(NORMALISED, 359)  # the 359 test digits at once, no padding
    for cfg, size in (
        (NORMALISED, 128),
        (NORMALISED, 7),
        (layout(NORMALISED, "jit", 4), 50),
        (layout(NORMALISED, "pmap", 4), 50),
    ):
        got = evaluated(cfg, size)
        assert got["confusion_matrix"] == reference["confusion_matrix"]
        assert got["top1"] == reference["top1"]
        assert got["loss"] == pytest.approx(reference["loss"], rel=1e-5)  # the order of a float32 sum of 360


class Sowing(nn.Module):
    """A dense layer with two auxiliary heads that say twice and three times the same."""

    num_classes: int
    aux_heads: bool = True
    aux_weight: float = 0.25

    @nn.compact
    def __call__(self, images, *, train: bool):
        logits = nn.Dense(self.num_classes, name="head")(images.reshape(len(images), -1))
        if train and self.aux_heads:
            self.sow("intermediates", "aux1", 2 * logits)
            self.sow("intermediates", "aux2", 3 * logits)
            self.sow("intermediates", "norm", jnp.sum(logits))  # not an auxiliary head
        return logits


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        ({}, 0.25),
        ({"task.auxiliary_weight": 0.5}, 0.5),
        ({"task.auxiliary_weight": 0.0}, 0),
        ({"model.aux_heads": False}, 0),
    ],
)
@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_auxiliary_heads_add_their_weighted_losses(fields, weight, mode):
    cfg = replace(PLAIN, **{"model.name": f"{__file__}:Sowing", "augmentation.flip": False, "parallelism.mode": mode})
    prepared = Prepared(replace(dataclasses.replace(cfg, model=ModelConfig(cfg.model.name)), **fields))
    feed = prepared.feeds(1)[0]
    compiled = programs.compile_train(prepared.resolved, prepared.pipeline, prepared.state, prepared.resident)
    variables = {"params": jax.tree.map(np.array, parallel.host(prepared.state.params))}
    with contextlib.closing(prepared.pipeline.train(0)) as feeds:
        batch = prepared.pipeline.fetch(prepared.pipeline.resident, next(feeds), split="train", augment=True)
    logits = prepared.resolved.model.apply(variables, batch["image"], train=False)

    def loss(factor):
        return float(optax.softmax_cross_entropy_with_integer_labels(factor * logits, batch["label"]).mean())

    _, measures = compiled(prepared.state, prepared.resident, feed, prepared.layout.replicate(np.float32(0)))
    expected = loss(1) + weight * (loss(2) + loss(3))
    # Float32 sums over 32 examples in another order.
    np.testing.assert_allclose(float(parallel.host(measures)["loss"]), expected, rtol=1e-5)
