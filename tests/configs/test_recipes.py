"""Laws of every recipe: it loads, round-trips, says what it is; its real step can be traced, and a small one taken."""

import dataclasses
import gc
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import configs
from research import catalogue, data, models
from research import config as values
from research.errors import UserError
from research.training import programs, resolve, sharing, state, transfer

pytestmark = pytest.mark.networks

RECIPES = configs.names()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_value(name):
    cfg = configs.load(name)
    assert configs.load(name) == cfg
    assert values.from_json(values.to_json(cfg)) == cfg


@pytest.mark.parametrize("file", catalogue.modules("configs"))
def test_a_file_says_what_it_is_and_its_first_variant_is_the_default(file):
    module = catalogue.modules("configs")[file]
    assert f"python launch.py train {file}" in module.__doc__
    assert configs.load(file) == configs.load(f"{file}:{module.VARIANTS[0]}")


def described(cfg: values.Config) -> tuple[values.Config, data.Stored]:
    """A recipe and its data set, as its files or its publication say; synthetic where a Debian package is missing."""
    try:
        return cfg, data.described(cfg.data)[0]
    except UserError as error:
        if "install-system" not in str(error):  # the one reason for which these recipes may be refused
            raise
        cfg = values.replace(cfg, **{"data.name": "synthetic"})
        return cfg, data.described(cfg.data)[0]


BLOCKS = 8  # that are traced of a deeper network: its others repeat them, and the laws of models trace every network


def shallow(cfg: values.Config) -> values.Config:
    """The recipe with `BLOCKS` blocks where its network has more, at least one in each stage."""
    fields = dict(cfg.model.options)
    blocks = sum(stage.blocks for stage in getattr(models.create(cfg.model.name, **fields), "stages", ()))
    return cfg if blocks <= BLOCKS else values.replace(cfg, **{"model.depth_multiplier": BLOCKS / blocks})


@pytest.mark.parametrize("name", RECIPES)
def test_the_train_step_of_a_recipe_traces(name):
    """At its own width, resolution and batch, on data as published; nothing is computed."""
    cfg, stored = described(shallow(values.replace(configs.load(name), **{"parallelism.devices": 1})))
    resolved = resolve.resolve(cfg, stored=stored)
    pipeline = data.shapes(resolved.data, cfg.augmentation, stored=stored)
    arguments = programs.train_arguments(resolved, pipeline)
    after, measures = jax.eval_shape(programs.train_step(resolved, pipeline), *arguments)
    assert (measures["loss"].shape, measures["loss"].dtype) == ((), jnp.float32)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), arguments[0])
    assert resolved.rates().shape == (resolved.steps,)
    if cfg.data.name == "imagenet2012":
        assert resolved.info.shape == models.variant(cfg.model.name).input_shape


SMALLEST = {"width_multiplier": 0.01, "depth_multiplier": 0.01}  # the fewest channels, and one block in each stage
# The step is taken once: the compiler need not make it fast.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def small(cfg: values.Config) -> values.Config:
    """The recipe on 256 images, 8 a batch, with the smallest network of its kind; classes are synthetic, of 32 pixels.

    Optimizer, schedule, augmentation and loss are its own, and so is a network that starts from weights. Computed in
    float32: CPUs have no other, and compile three times as long for bfloat16.
    """
    few = {"data.train_examples": 256, "data.batch_size": 8}
    sizes = {"parallelism.devices": 1, "precision.compute": "float32"}
    if cfg.task.name == "classification":
        few |= {"data.name": "synthetic", "data.path": None, "data.resolution": 32, "data.crop_fraction": None}
    fields = set() if cfg.transfer.weights else SMALLEST.keys() & models.fields(cfg.model.name)
    return values.replace(cfg, **few, **sizes, **{f"model.{field}": SMALLEST[field] for field in fields})


def kinds() -> list[Any]:
    """The first of all recipes whose small steps differ in nothing but numbers and the size of a network."""
    first: dict = {}
    for name in RECIPES:
        shaping = sharing.shaping(small(configs.load(name)))
        build = models.variant(shaping.model.name).build
        shared = dataclasses.replace(shaping, model=dataclasses.replace(shaping.model, name=""))
        first.setdefault((shared, getattr(build, "func", build)), name)
    debian = {"fashion_objects"}
    return [pytest.param(n, marks=pytest.mark.debian if n.split(":")[0] in debian else ()) for n in first.values()]


@pytest.mark.parametrize("name", kinds())
def test_a_small_step_of_a_recipe_moves_weights_to_finite_numbers(name):
    resolved = resolve.resolve(small(configs.load(name)))
    pipeline = data.pipeline(resolved.data, resolved.config.augmentation, seed=0)
    zero, own = programs.zeros(resolved, pipeline, train=True), resolved.hyperparameters
    ema, weights = "ema_decay" in own, transfer.weights_of(resolved.config)
    init = state.initialiser(resolved.model, resolved.optimizer, resolved.image, zero, ema=ema, hyperparameters=own)
    train = programs.train_step(resolved, pipeline)

    def first(key, resident, feed, rate):
        begun = init(key)
        if weights is not None:
            fresh = {"params": begun.params, "batch_stats": begun.batch_stats}
            begun = begun.replace(**transfer.start(fresh, weights, keep_head=False))
        return begun.params, *train(begun, resident, feed, rate)

    feed, peak = next(iter(pipeline.train(0))), jnp.float32(resolved.peak)
    before, after, measures = jax.jit(first, compiler_options=QUICKLY)(
        jax.random.PRNGKey(0), pipeline.resident, feed, peak
    )
    for leaf in jax.tree.leaves((after.params, after.batch_stats, after.opt_state, after.ema, measures)):
        assert np.all(np.isfinite(leaf))
    assert measures["loss"] > 0
    assert not jax.tree.all(jax.tree.map(np.array_equal, before, after.params))


@pytest.mark.filterwarnings("error")  # the command line would show a warning beside its one line
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("", "has no get_config()"),
        ("def get_config(): return {}\n", "get_config gave a dict; expected a Config"),
        ("async def get_config(): pass\n", "get_config gave a coroutine; expected a Config"),
        ("def get_config(): exit()\n", "get_config raised SystemExit"),
    ],
)
def test_a_file_of_the_users_own_that_gives_no_config_is_refused(tmp_path, code, said):
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(UserError, match=re.escape(said)):
        configs.load(f"{tmp_path / 'own.py'}")
    gc.collect()
