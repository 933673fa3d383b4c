"""Ways to compute the same step with less memory or more devices, and what is kept beside the weights."""

import collections
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research import data
from research.config import Config, replace
from research.errors import UserError
from research.nn.remat import recomputed
from research.ordering import after
from research.training import batch_statistics, parallel, programs, resolve, state
from research.training.evaluation import Evaluation
from research.values import due
from tests.training.test_step import NORMALISED, PLAIN, Prepared, assert_relatively_close, layout


@pytest.fixture(scope="module")
def whole():
    """Five steps of the network without batch norm, on one device, batch and all at once."""
    return Prepared(PLAIN).run()


def with_(cfg: Config, **values) -> Config:
    return replace(cfg, **{f"parallelism.{key}": value for key, value in values.items()})


@pytest.mark.parametrize(("mode", "devices", "parts"), [("jit", 1, 4), ("jit", 4, 2), ("pmap", 2, 4), ("jit", 1, 2)])
def test_accumulation_equals_one_large_batch(whole, mode, devices, parts):
    got = Prepared(with_(PLAIN, mode=mode, devices=devices, accumulate=parts)).run()
    # Only the order of the sum over the batch differs.
    assert_relatively_close(got.params, whole.params, 1e-6)
    np.testing.assert_array_equal(got.statistics["loss"].examples, whole.statistics["loss"].examples)


@pytest.mark.parametrize(("mode", "devices", "parts"), [("jit", 1, 1), ("jit", 4, 2), ("pmap", 4, 1)])
def test_streamed_examples_give_the_same_parameters_as_resident_ones(whole, mode, devices, parts):
    cfg = replace(with_(PLAIN, mode=mode, devices=devices, accumulate=parts), **{"data.input": "streaming"})
    got = Prepared(cfg).run()
    # The same images in the same order; only the order of the sums over the batch may differ.
    assert_relatively_close(got.params, whole.params, 1e-6)


def test_streamed_examples_with_batch_norm():
    streamed = Prepared(replace(NORMALISED, **{"data.input": "streaming"})).run()
    # Two compilations of the same sums over five steps, magnified by batch norm (see test_step).
    assert_relatively_close(streamed.params, Prepared(NORMALISED).run().params, 1e-3)


def test_accumulation_with_batch_norm_normalises_each_part_by_itself():
    one, four = (Prepared(with_(NORMALISED, accumulate=parts)).run(1) for parts in (1, 4))
    losses = [float(got.statistics["loss"].total) / 32 for got in (one, four)]
    # Statistics of 8 examples instead of 32: another loss, but that of the same network on the same images.
    assert 1e-4 < abs(losses[0] - losses[1]) < 0.3


def test_a_masked_example_counts_in_no_part_and_on_no_device():
    """Parts and replicas with different numbers of real examples: the mean is over the examples, not over the parts."""

    def parameters(cfg, batch):
        prepared = Prepared(replace(cfg, **{"data.batch_size": batch}))
        with_mask = dict(first_feed)
        if batch == 16:
            with_mask = {key: value[:16] for key, value in first_feed.items()}
        feed = prepared.layout.split(with_mask, parts=prepared.layout.parts)
        compiled = programs.compile_train(prepared.resolved, prepared.pipeline, prepared.state, prepared.resident)
        return parallel.host(
            compiled(prepared.state, prepared.resident, feed, prepared.layout.replicate(np.float32(0.1)))
        )

    pipeline = data.pipeline(PLAIN.data, PLAIN.augmentation, seed=0)
    first_feed = next(pipeline.train(0))
    first_feed["mask"] = np.where(np.arange(32) < 16, first_feed["mask"], 0).astype(np.float32)
    half, measured = parameters(PLAIN, 16)
    for cfg in (PLAIN, with_(PLAIN, accumulate=4), with_(PLAIN, devices=4), with_(PLAIN, mode="pmap", devices=4)):
        got, measures = parameters(cfg, 32)
        # The order of sums over 16 examples.
        assert_relatively_close(got.params, half.params, 1e-6)
        assert measures["loss"] == pytest.approx(measured["loss"], rel=1e-6)
        assert measures["gradient_norm"] == pytest.approx(measured["gradient_norm"], rel=1e-5)


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_rematerialised_blocks_give_the_same_parameters_with_less_memory(drop):
    """With blocks dropped at random too: both passes, and both networks, draw the same."""
    cfg = replace(NORMALISED, **{"model.name": "resnet14", "model.stochastic_depth": drop})
    kept, again = Prepared(cfg), Prepared(with_(cfg, remat=True))
    memory = [
        programs.compile_train(p.resolved, p.pipeline, p.state, p.resident).memory_analysis().temp_size_in_bytes
        for p in (kept, again)
    ]
    assert memory[1] < 0.7 * memory[0]  # six blocks only; a deep network gains more
    one, other = kept.run(1), again.run(1)
    # The same operations compiled in another order; batch norm magnifies rounding (see test_step).
    assert_relatively_close(other.params, one.params, 1e-4)
    assert_relatively_close(other.batch_stats, one.batch_stats, 1e-4)
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_fsdp_equals_replicated_and_keeps_a_share_of_the_bytes(whole):
    # The order of sums over the batch and over devices.
    assert_relatively_close(Prepared(with_(PLAIN, devices=4, sharding="fsdp")).run().params, whole.params, 1e-6)
    cfg = with_(replace(PLAIN, **{"data.resolution": 32}), devices=4)
    states = [Prepared(with_(cfg, sharding=sharding)).state for sharding in ("fsdp", "replicated")]
    of_device, of_whole = (parallel.per_device_bytes((s.params, s.opt_state)) for s in states)  # momentum as well
    # LeNet-5: 1,226 of 61,706 parameters are in arrays too small to be split: 0.02 + 0.98 / 4.
    assert of_device <= 0.27 * of_whole


def test_no_device_sends_its_images_to_another():
    """Parameters are gathered, each once, and gradients summed; the batch stays where it is, in loops too."""
    cfg = replace(
        NORMALISED, **{"model.name": "resnet20", "model.width": 16, "data.resolution": 32, "data.batch_size": 128}
    )
    sent = {}
    for sharding in ("replicated", "fsdp"):
        prepared = Prepared(with_(cfg, devices=4, sharding=sharding))
        compiled = programs.compile_train(prepared.resolved, prepared.pipeline, prepared.state, prepared.resident)
        words = re.findall(
            r" (all-to-all|collective-permute|reduce-scatter|all-gather)(?:-start)?\(", compiled.as_text()
        )
        sent[sharding] = collections.Counter(words)
    assert not sent["replicated"]
    assert set(sent["fsdp"]) <= {"all-gather", "reduce-scatter"}
    split = [leaf for leaf in jax.tree.leaves(prepared.state.params) if parallel.split_axis(leaf.shape, 4) is not None]
    assert sent["fsdp"]["all-gather"] == len(split)


def test_fsdp_with_batch_norm_and_accumulation():
    split = Prepared(with_(NORMALISED, devices=4, sharding="fsdp", accumulate=2)).run(2)
    kept = Prepared(with_(NORMALISED, devices=4, accumulate=2)).run(2)
    # Batch norm magnifies rounding (see test_step).
    assert_relatively_close(split.params, kept.params, 1e-4)


@pytest.mark.parametrize(
    ("shape", "devices", "axis"),
    [
        ((3, 3, 64, 128), 4, 3),
        ((3, 3, 64, 64), 4, 3),
        ((3, 3, 128, 66), 4, 2),
        ((7, 1024), 4, 1),
        ((1024,), 4, 0),
        ((1020,), 4, None),
        ((33, 35), 4, None),
        ((2048, 10), 8, 0),
    ],
)
def test_what_fsdp_splits(shape, devices, axis):
    assert parallel.split_axis(shape, devices) == axis


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parallelism.sharding": "fsdp", "parallelism.mode": "pmap"}, "fsdp, which mode pmap cannot do"),
        ({"parallelism.sharding": "fsdp", "parallelism.batch_norm": "per_replica"}, "per_replica cannot do"),
        (
            {"parallelism.accumulate": 5},
            r"not divisible by 1 devices x 5 parts \(parallelism.accumulate\); nearest: 30 or 35",
        ),
        ({"parallelism.remat": True}, "model lenet5 has no field remat"),
        ({"augmentation.mixup": 0.2, "data.batch_size": 31}, "pairs"),
        ({"evaluation.batch_norm_batches": 2}, "lenet5 has no batch statistics"),
        ({"model.name": "resnet8", "model.shortcut": "none", "model.stochastic_depth": 0.1}, "no shortcut to leave"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        resolve.resolve(replace(PLAIN, **values))


def test_averaged_weights_follow_their_formula():
    prepared = Prepared(replace(PLAIN, **{"optimizer.ema_decay": 0.25}))
    compiled = programs.compile_train(prepared.resolved, prepared.pipeline, prepared.state, prepared.resident)
    average, current = parallel.host(prepared.state.params), prepared.state
    for number, feed in enumerate(prepared.feeds(4)):
        current, _ = compiled(current, prepared.resident, feed, prepared.layout.replicate(np.float32(0.1)))
        keep = min(0.25, (1 + number + 1) / (10 + number + 1))
        params = parallel.host(current.params)
        average = jax.tree.map(lambda a, p, keep=keep: keep * a + (1 - keep) * p, average, params)
    # Four float32 multiply-adds.
    assert_relatively_close(parallel.host(current.ema["params"]), average, 1e-6)
    plain = Prepared(PLAIN).run(4)
    assert not plain.ema


class _Population(nn.Module):
    """A batch norm and nothing else, so that its statistics are those of the images."""

    num_classes: int = 10
    momentum: float = 0.9

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(images)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


def moments_of(model, images, batches, **layout_):
    variables = model.init(jax.random.key(0), images[:1], train=False)
    current = state.TrainState(
        step=jnp.int32(0),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state={},
        key=jax.random.PRNGKey(0),
        statistics={},
        ema={},
    )
    run = batch_statistics.moments_step(model, lambda resident, feed, **_: {"image": feed["image"]})
    sums = jax.tree.map(jnp.zeros_like, current.batch_stats)
    for part in np.split(images, batches):
        sums = run(current, {}, {"image": jnp.asarray(part), "index": jnp.zeros(len(part), jnp.int32)}, sums)
    return batch_statistics.settled(sums, batches)["BatchNorm_0"]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_batch_statistics_are_those_of_the_population(momentum):
    images = np.random.default_rng(0).normal(3.0, 2.0, (24, 5, 5, 3)).astype(np.float32)
    images[:8] += 5.0  # batches that differ: the variance between them counts
    found = moments_of(_Population(momentum=momentum), images, 3)
    # float32 moments of 600 numbers around 5; E[x^2] - E[x]^2 costs two digits.
    np.testing.assert_allclose(found["mean"], images.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["var"], images.var((0, 1, 2)), rtol=1e-3)


class _Frozen(nn.Module):
    """One layer that is not trained on, and one behind it that is."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.BatchNorm(use_running_average=True, name="frozen")(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="BatchNorm_0")(x)
        return nn.Dense(10)(x.mean((1, 2)))


def test_a_frozen_layer_keeps_its_statistics_and_hides_none_behind_it():
    images = np.random.default_rng(0).normal(3.0, 2.0, (24, 5, 5, 3)).astype(np.float32)
    found = moments_of(_Frozen(), images, 2)
    # Fresh statistics of the first layer, 0 and 1, leave the images as they are but for its epsilon of 1e-5.
    np.testing.assert_allclose(found["mean"], images.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(found["var"], images.var((0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize(
    ("mode", "devices", "sharding"),
    [("jit", 1, "replicated"), ("jit", 4, "fsdp"), ("pmap", 4, "replicated")],
)
def test_evaluation_with_statistics_estimated_anew(mode, devices, sharding):
    """The layer behind the first convolution, against moments of what that layer sees of the same images."""
    cfg = with_(layout(NORMALISED, mode, devices), sharding=sharding)
    prepared = Prepared(replace(cfg, **{"evaluation.batch_norm_batches": 3, "optimizer.ema_decay": 0.5}))
    evaluation = Evaluation(prepared.resolved, prepared.pipeline, prepared.resident)
    evaluation.compile(prepared.state)
    before = state.digest(prepared.state)
    found = evaluation(prepared.state)
    assert state.digest(prepared.state) == before  # what is estimated is for the evaluation alone
    # At the start the averaged weights are the weights.
    assert found["eval"]["loss"] == pytest.approx(found["eval_ema"]["loss"], rel=1e-6)
    estimated = parallel.host(evaluation._settled(prepared.state).batch_stats)["stem"]["norm"]
    kernel = parallel.host(prepared.state.params)["stem"]["conv"]["kernel"]
    seen = []
    for feed in itertools.islice(prepared.pipeline.train(0), 3):
        images = prepared.pipeline.fetch(prepared.pipeline.resident, feed, split="train", augment=True)["image"]
        seen.append(nn.Conv(4, (3, 3), padding=1, use_bias=False).apply({"params": {"kernel": kernel}}, images))
    seen = np.concatenate(seen)
    # float32 moments of 6,144 numbers, in three parts and over four devices.
    np.testing.assert_allclose(estimated["mean"], seen.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(estimated["var"], seen.var((0, 1, 2)), rtol=1e-3)


def test_rematerialisation_takes_keys_counters_and_what_is_traced_outside():
    def loss(scale, x):
        def block(key, count, flag, x):
            noise = jax.random.normal(key, x.shape)
            return count + 1, jnp.where(flag, jnp.sin(scale * x) + noise, x)

        count, y = recomputed(block, jax.random.key(0), jnp.int32(3), jnp.bool_(True), x)
        return jnp.sum(y**2) + count

    def plain(scale, x):
        return jnp.sum((jnp.sin(scale * x) + jax.random.normal(jax.random.key(0), x.shape)) ** 2) + 4

    x = jnp.arange(4.0)
    for one, other in zip(
        jax.jit(jax.value_and_grad(loss, (0, 1)))(2.0, x), jax.value_and_grad(plain, (0, 1))(2.0, x), strict=True
    ):
        # The compiler fuses and reorders a few float32 operations.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


def test_after_changes_no_bit():
    values = {
        "float": jnp.array([0.0, -0.0, 1.5, jnp.inf, -jnp.inf, jnp.nan, 1e-37], jnp.float32),
        "int": jnp.arange(4),
        "byte": jnp.array([0, 255], jnp.uint8),
    }
    for done in ({"x": jnp.array([-3.0])}, {"x": jnp.array([jnp.inf, 1.0]), "y": jnp.int32(7)}):
        got = jax.jit(after)(values, done)
        for key in values:
            assert np.asarray(got[key]).tobytes() == np.asarray(values[key]).tobytes()


def test_due_at_the_steps_nearest_to_multiples():
    from fractions import Fraction

    period = Fraction(1438, 64) * 5  # five epochs of 1,438 digits at batch 64: 112.34 steps
    steps = [done for done in range(1, 500) if due(period, done)]
    assert steps == [112, 225, 337, 449]
    assert [done for done in range(1, 8) if due(Fraction(1, 3), done)] == list(range(1, 8))
    assert not any(due(Fraction(0), done) for done in range(10))
    assert list(itertools.islice((d for d in range(1, 99) if due(Fraction(10), d)), 3)) == [10, 20, 30]
