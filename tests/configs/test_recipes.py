"""Laws of every recipe: it loads, round-trips, says what it is, and its step can be traced."""

import jax
import jax.numpy as jnp
import pytest

import configs
from research import catalogue, data
from research import config as values
from research.errors import UserError
from research.training import resolve, state, step
from research.training.programs import zeros

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


def is_here(cfg: values.Config) -> bool:
    try:
        data.info(cfg.data)
    except UserError as error:
        if "install-system" not in str(error):  # the one reason for which these recipes may be refused
            raise
        return False
    return True


@pytest.mark.parametrize("name", RECIPES)
def test_the_whole_train_step_of_a_recipe_traces(name):
    """With the recipe's own data where a package brings it, else with synthetic 32x32x3 images of ten classes."""
    cfg = configs.load(name)
    assert cfg.data.name in data.names()
    if cfg.data.name not in ("digits", "orl_faces", "fashion_mnist") or not is_here(cfg):
        stand_in = {"data.name": "synthetic", "data.train_examples": 300, "data.path": None}
        cfg = values.replace(cfg, **stand_in)
    resolved = resolve.resolve(values.replace(cfg, **{"parallelism.devices": 1}))
    pipeline = data.pipeline(cfg.data, cfg.augmentation, seed=0)
    zero = zeros(resolved, pipeline, train=True)
    like = state.shapes(resolved.model, resolved.optimizer, resolved.image, zero)
    function = step.train_step(resolved.model, resolved.task, resolved.optimizer, pipeline.fetch)
    feed = next(iter(pipeline.train(0)))
    after, measures = jax.eval_shape(function, like, pipeline.resident, feed, jnp.float32(0))
    assert (measures["loss"].shape, measures["loss"].dtype) == ((), jnp.float32)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), like)
    assert resolved.rates().shape == (resolved.steps,)
