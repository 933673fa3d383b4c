"""Recipes against the numbers that the papers print: rates at epochs, weight decay, what decays."""

import jax
import pytest

import configs
from research import config as values
from research import data, models
from research.config import OptimizerConfig
from research.testing import model_laws
from research.training import groups, optimizer, schedule
from research.values import nearest_step


def rate(name: str, epoch: float, **changed) -> float:
    """The learning rate of a recipe after that many epochs."""
    cfg = values.replace(configs.load(name), **changed)
    length = {"examples": data.described(cfg.data)[0].train_examples, "batch_size": cfg.data.batch_size}
    rule = schedule.schedule(
        cfg.schedule,
        peak=optimizer.peak(cfg.optimizer, cfg.data.batch_size),
        steps=cfg.budget.train.steps(**length),
        warmup=cfg.schedule.warmup.steps(**length),
        every=cfg.schedule.every.exact(**length),
    )
    return float(rule(nearest_step(values.Duration(epoch, "epochs").exact(**length))))


EFFICIENTNET, LARGE = "imagenet_efficientnet:b0", {"data.batch_size": 8192}


@pytest.mark.parametrize(
    ("name", "changed", "rates"),
    [
        # He et al. 2015: 32,000 and 48,000 steps of 128 are 81.92 and 122.88 epochs; 400 are 1.024.
        ("cifar10:resnet44", {}, {0: 0.1, 81.91: 0.1, 81.92: 0.01, 122.87: 0.01, 122.88: 0.001, 163.8: 0.001}),
        ("cifar10:preresnet110", {}, {0: 0.1 / 400, 0.512: 0.1 * 201 / 400, 1.1: 0.1, 81.92: 0.01}),
        ("cifar10:wrn28_10", {}, {0: 0.1, 59.9: 0.1, 60: 0.02, 120: 0.004, 159.9: 0.004, 160: 0.0008, 199: 0.0008}),
        ("cifar10:densenet_bc_100_12", {}, {0: 0.1, 149.9: 0.1, 150: 0.01, 225: 0.001, 299: 0.001}),
        ("imagenet:resnet50_goyal", {}, {5: 0.1, 29.9: 0.1, 30.1: 0.01, 60.1: 0.001, 80.1: 0.0001, 89: 0.0001}),
        # k = 32 times 256 images: 0.1 k.
        ("imagenet:resnet101_goyal", LARGE, {5: 3.2, 29.9: 3.2, 30.1: 0.32, 60.1: 0.032, 80.1: 0.0032}),
        # 2.4 epochs for each 0.97, counted from the start: two of them in the warmup of 5.
        (
            EFFICIENTNET,
            {},
            {5.1: 0.256 * 0.97**2, 7.1: 0.256 * 0.97**2, 7.3: 0.256 * 0.97**3, 240.1: 0.256 * 0.97**100},
        ),
        (EFFICIENTNET, {"data.batch_size": 256}, {5.1: 0.016 * 0.97**2, 349: 0.016 * 0.97**145}),
        ("imagenet_mobilenet:v1", {}, {0: 0.045, 1.9: 0.045, 2.1: 0.045 * 0.94, 99: 0.045 * 0.94**49}),
        ("imagenet_mobilenet:v2", {}, {0: 0.045, 0.9: 0.045, 1.1: 0.045 * 0.98, 100.1: 0.045 * 0.98**100}),
        ("imagenet_mobilenet:v3_small", {}, {0: 0.1, 2.9: 0.1, 3.1: 0.099, 300.1: 0.1 * 0.99**100}),
    ],
)
def test_the_rate_at_an_epoch_is_the_papers(name, changed, rates):
    for epoch, expected in rates.items():
        assert rate(name, epoch, **changed) == pytest.approx(expected, rel=1e-12), epoch  # float64, some products


def test_the_warmup_rises_in_a_line():
    # Goyal et al. 2017, section 2.2: constant increments over 5 epochs, here from peak / warmup.
    steps = round(5 * 1_281_167 / 8192)
    middle = nearest_step(values.Duration(2.5, "epochs").exact(examples=1_281_167, batch_size=8192))
    assert rate("imagenet:resnet50_goyal", 2.5, **LARGE) == pytest.approx(3.2 * (middle + 1) / steps)
    assert rate(EFFICIENTNET, 0) == pytest.approx(0.256 / round(5 * 1_281_167 / 4096))


STEPS, SLOW = 400, 1e-4  # so that averages have settled, and the weight has hardly moved


@pytest.mark.parametrize(
    ("name", "coefficient"),
    [
        ("cifar10:resnet20", 1e-4),
        ("cifar10:preresnet110", 1e-4),
        ("cifar10:wrn28_10", 5e-4),
        ("cifar10:densenet_bc_100_12", 1e-4),
        ("imagenet:resnet50_goyal", 1e-4),
        ("imagenet_efficientnet:b0", 1e-5),
        ("imagenet_mobilenet:v1", 4e-5),
        ("imagenet_mobilenet:v2", 4e-5),
        ("imagenet_mobilenet:v3_large", 1e-5),
    ],
)
def test_decoupled_decay_acts_as_the_papers_term_of_the_loss(name, coefficient):
    """On a weight whose gradient is that of the L2 term alone, so that RMSProp's root is that of epsilon."""
    cfg = configs.load(name).optimizer

    def factor(decay: float, term: float) -> float:
        """What the last step leaves of a weight."""
        fields = {"learning_rate": SLOW, "weight_decay": decay, "momentum": cfg.momentum, "epsilon": cfg.epsilon}
        rule = optimizer.create(OptimizerConfig(cfg.name, **fields))

        @jax.jit
        def step(weight, state):
            updates, state = rule.update({"kernel": term * weight["kernel"]}, state, weight)
            return updates, jax.tree.map(jax.numpy.add, weight, updates), state

        weight = {"kernel": jax.numpy.ones((1, 1))}
        state = rule.init(weight)
        for _ in range(STEPS):
            updates, weight, state = step(weight, state)
        return float(updates["kernel"][0, 0] / weight["kernel"][0, 0])

    # 3.2e-3 for 3.162e-3 is the widest; and the weight moves by up to 0.02% meanwhile.
    assert factor(cfg.weight_decay, 0.0) == pytest.approx(factor(0.0, coefficient), rel=0.02)


@pytest.mark.parametrize(("variant", "depthwise"), [("v1", 13), ("v2", 17), ("v3_large", 15), ("v3_small", 11)])
def test_a_mobilenet_decays_all_kernels_but_the_depthwise(variant, depthwise):
    cfg = configs.load(f"imagenet_mobilenet:{variant}")
    model, shape = models.create(cfg.model.name), models.variant(cfg.model.name).input_shape
    params = model_laws.initial_shapes(model, shape)[1]["params"]
    kernels = {path: size.shape for path, size in groups.paths(params).items() if len(size.shape) >= 2}
    decays = {path for path, yes in groups.paths(optimizer.decay_mask(params, cfg.optimizer.decay_on)).items() if yes}
    assert decays == {path for path, sizes in kernels.items() if sizes[-2] > 1}  # a depthwise filter has one channel
    assert len(kernels) - len(decays) == depthwise
