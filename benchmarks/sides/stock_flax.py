"""A network of `benchmarks.stock`, forward or in training, compiled as anyone would: no layer and no step of ours."""

import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import stock
from benchmarks.alternating import Spec, Timer, serve, wall_timer
from research.analysis import memory
from research.testing import model_laws


def prepare(spec: Spec) -> tuple[dict[str, Timer], Spec]:
    """{"model", "train", "batch_size", "resolution"} -> a timer of one step. Raises `KeyError`: no such network."""
    model, shape = stock.NETWORKS[spec["model"]](), (spec["batch_size"], spec["resolution"], spec["resolution"], 3)
    rule = optax.sgd(1e-4, momentum=0.9)
    like, labels = jax.ShapeDtypeStruct(shape, jnp.float32), jnp.arange(shape[0], dtype=jnp.int32) % 10
    _, shapes = model_laws.initial_shapes(model, shape[1:])
    began = time.perf_counter()
    if spec["train"]:
        step = jax.jit(stock.train_step(model, rule), donate_argnums=(0, 1))
        lowered = step.lower(shapes, jax.eval_shape(rule.init, shapes["params"]), like, labels)
    else:
        lowered = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(shapes, like)
    compiled = lowered.compile()
    seconds, before = time.perf_counter() - began, memory.forget_peak()
    variables = model_laws.fill(shapes)
    images = jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))
    call = _train(compiled, variables, rule, images, labels) if spec["train"] else lambda: compiled(variables, images)
    timer = wall_timer(call, jax.block_until_ready)
    memory.forget_peak()
    timer(2)
    most = memory.peak()
    facts = {
        "compile_seconds": seconds,
        "memory_bytes": memory.of(compiled).total,
        "peak_rss_bytes": most,
        "rss_growth_bytes": None if before is None else most - before,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    return {"step": timer}, facts


def _train(compiled: Any, variables: Any, rule: Any, images: jax.Array, labels: jax.Array) -> Callable[[], Any]:
    state = [variables, rule.init(variables["params"])]

    def call() -> Any:
        *state[:], loss = compiled(*state, images, labels)
        return loss

    return call


if __name__ == "__main__":
    serve(prepare)
