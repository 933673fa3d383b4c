"""What is held against each other is the same network, and the rows of targets name what exists."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import configs
from benchmarks import against, stock, stock_training, sweep
from benchmarks.sides import network, stock_flax
from research import models
from research.errors import UserError
from research.scaling import complexity
from research.testing import model_laws


@pytest.mark.parametrize("name", stock.NETWORKS)
def test_stock_networks_are_those_of_the_catalogue(name):
    shape = models.variant(name).input_shape
    _, variables = model_laws.initial_shapes(stock.NETWORKS[name](), shape)
    ours = complexity.count(models.create(name), (1, *shape))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == ours.params
    assert complexity.count(stock.NETWORKS[name](), (1, *shape)).macs == ours.macs


def test_the_stock_train_step_follows_the_gradient():
    """The loss of one small batch goes down, and batch statistics move."""
    model, rule = stock.ResNet20(), optax.sgd(0.01, momentum=0.9)
    shapes = model_laws.initial_shapes(model, (8, 8, 3))[1]
    variables, labels = model_laws.fill(shapes), jnp.arange(4) % 10
    images = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 8, 3), np.float32))
    step = jax.jit(stock.train_step(model, rule), compiler_options=model_laws.QUICK)
    state, losses, first = rule.init(variables["params"]), [], variables["batch_stats"]
    for _ in range(5):
        variables, state, loss = step(variables, state, images, labels)
        losses.append(float(loss))
    assert losses[-1] < losses[0]
    assert all((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, variables["batch_stats"])), strict=True))


def test_both_jax_sides_give_a_timer_and_the_same_facts():
    spec = {"model": "resnet20", "train": False, "batch_size": 2, "resolution": 8}
    (ours, mine), (theirs, stocks) = network.prepare(spec), stock_flax.prepare(spec)
    assert ours.keys() == {"step", "product", "stream", "compile"}
    assert theirs.keys() == {"step"}
    assert stocks.keys() <= mine.keys()
    assert all(timers["step"](2) > 0 for timers in (ours, theirs))
    assert ours["compile"](1) > 0
    assert mine["flops"] == 2 * 2 * complexity.count(models.create("resnet20"), (1, 8, 8, 3)).macs


@pytest.mark.parametrize("row", against.TARGETS, ids=lambda row: row.title)
def test_rows_of_targets_name_networks_and_sizes_they_take(row):
    models.check_input(row.model, (row.resolution, row.resolution, models.variant(row.model).input_shape[-1]))
    assert row.reference
    assert against.specification(row, "torch-compile")["compile"]
    assert (against.specification(row, "stock-flax") is None) == (row.model not in stock.NETWORKS)


def test_what_is_printed_says_whether_a_target_is_reached():
    row = against.Row("resnet20", True, 128, 32, stock=2.0, torch=0.8)
    ours = {"flops": 1e9, "product_flops": 1e9, "stream_bytes": 1e9, "compile_seconds": 9.0, "memory_bytes": 10}
    ours["rss_growth_bytes"] = None
    stocks = {"compile_seconds": 2.0, "memory_bytes": 8, "rss_growth_bytes": None}
    seconds = {"ours": [0.1] * 3, "stock": [0.3] * 3, "torch": [0.05] * 3, "product": [0.02] * 3, "stream": [0.1] * 3}
    result = {"facts": {"ours": ours, "stock": stocks, "torch": {}}, "seconds": seconds, "failed": {"other": "why"}}
    result["compiles"] = {"ours": [9.0, 3.0, 2.5], "stock": [2.0, 2.0, 7.0]}
    text = "\n".join(against.lines(row, result))
    assert "10.0 GFLOP/s, 20% of a matrix product's 50; memory streams at 10.0 GB/s" in text
    assert "3.00 times as long (3.00 to 3.00)  target 2: reached" in text
    assert "0.50 times as long (0.50 to 0.50)  target 0.8: MISSED" in text
    assert "compile time 1.50, memory 1.25\n" in text
    assert text.endswith("why")


def test_a_sweep_has_as_many_runs_as_asked_for():
    cfg = configs.load("digits:lenet5")
    rates, seeds = sweep.cells(cfg, 24)
    assert (len(set(rates)), seeds) == (6, 4)
    assert all(len(r) * s == n for n in (1, 2, 5, 12) for r, s in [sweep.cells(cfg, n)])
    for wrong in (0, 23):
        with pytest.raises(UserError, match="--runs"):
            sweep.cells(cfg, wrong)


def test_the_stock_process_of_a_sweep_is_told_the_recipe():
    """20 epochs of 1,438 images at 64 a step are 449 steps, one epoch 22."""
    words = sweep.stock_words(configs.load("digits:lenet5"), 0.05, 3)
    told = dict(zip(words[2::2], words[3::2], strict=True))
    assert told == {
        "--dataset": "digits",
        "--steps": "449",
        "--batch-size": "64",
        "--warmup": "22",
        "--eval-every": "112",
        "--weight-decay": "0.001",
        "--learning-rate": "0.05",
        "--seed": "3",
    }
    train, test = stock_training.digits()
    assert (train[0].shape, len(test[1])) == ((1438, 32, 32), 359)
    shapes = jax.eval_shape(stock_training.LeNet5().init, jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 61_706
