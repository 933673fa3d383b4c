"""What is measured of a network: its forward pass or its train step, compiled and with its arguments in place.

The train step is the one that `launch.py train` compiles (classification, momentum, one device), fed with arrays that
are on the device already.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from research import models, tasks
from research.analysis import memory
from research.analysis.ceiling import Program
from research.analysis.memory import Memory
from research.config import Config, DataConfig, ModelConfig, ParallelismConfig, PrecisionConfig
from research.errors import UserError
from research.scaling import complexity
from research.testing import model_laws
from research.training import optimizer, parallel, resolve, state, step
from research.values import Options

PyTree = Any
Place = Callable[[], Callable[[], Any]]  # puts arguments in place; gives the call


@dataclass(frozen=True)
class Work:
    """What is timed: a variant or the user's `file.py:Name` with its fields, on batches, forward or in training."""

    model: str
    train: bool
    batch_size: int = 16
    resolution: int | None = None  # pixels; None: the variant's own
    num_classes: int | None = None  # None: the variant's own
    channels: int | None = None  # None: the variant's own
    compute: Literal["float32", "bfloat16"] = "float32"
    options: Options = Options()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example, (*space, channels)."""
        *space, own = models.variant(self.model).input_shape
        sides = space if self.resolution is None else [self.resolution] * len(space)
        return (*sides, own if self.channels is None else self.channels)

    @property
    def classes(self) -> int:
        """How many outputs the network has."""
        return models.variant(self.model).num_classes if self.num_classes is None else self.num_classes

    @property
    def config(self) -> Config:
        """The run whose step this is, but for its data. Raises `UserError`."""
        return Config(
            model=ModelConfig(self.model, self.num_classes, self.options),
            data=DataConfig(batch_size=self.batch_size),
            parallelism=ParallelismConfig(devices=1),
            precision=PrecisionConfig(compute=self.compute),
        )


@dataclass(frozen=True)
class Prepared:
    """A compiled program with its arguments in place, and what that took; `program.amount` is the FLOPs of a call."""

    program: Program
    compile_seconds: float  # tracing, lowering and compiling, without a cache
    compile_again: Callable[[], float]  # the same once more; its seconds
    memory: Memory
    peak_rss: int  # bytes of the process while the program ran
    rss_growth: int | None  # of these, those that came with the program's arguments and its run; None off Linux


def check(work: Work) -> complexity.Cost:
    """The cost of one example, traced by shape; nothing is compiled. Raises `UserError` where `work` cannot be done."""
    cfg = work.config
    models.check_input(work.model, work.input_shape, **work.options)
    parallel.layout(cfg)
    model = resolve.build_model(cfg, num_classes=work.classes)
    try:
        return complexity.count(model, (1, *work.input_shape))
    except UserError:
        raise
    except Exception as error:  # whatever a user's own network raises while its shapes are traced
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"model {work.model} cannot take images of {work.input_shape}: {reason}") from error


def prepare(work: Work, macs: int) -> Prepared:
    """Compile `work` without a cache, put its arguments in place and run it twice; `macs` are those of one example."""
    made = _train(work) if work.train else _forward(work)
    compiled, place, seconds = _timed(made)
    before = memory.forget_peak()
    flops = 2.0 * macs * work.batch_size * (3 if work.train else 1)
    program = Program(place(), flops)
    memory.forget_peak()  # what making the arguments took for a moment is not the program's
    program.seconds(2)
    most = memory.peak()
    again = lambda: _timed(made)[-1]  # noqa: E731
    return Prepared(program, seconds, again, memory.of(compiled), most, None if before is None else most - before)


def _timed(made: Callable[[], tuple[jax.stages.Compiled, Place]]) -> tuple[jax.stages.Compiled, Place, float]:
    """What is compiled from nothing, and the seconds of that."""
    jax.clear_caches()
    with uncached():
        began = time.perf_counter()
        compiled, place = made()
        return compiled, place, time.perf_counter() - began


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Within this context nothing that is compiled comes from the persistent cache, or goes there."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks only once whether there is a cache
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _forward(work: Work) -> Callable[[], tuple[jax.stages.Compiled, Place]]:
    """Logits of a batch, as in evaluation."""
    model = resolve.build_model(work.config, num_classes=work.classes)
    _, shapes = model_laws.initial_shapes(model, work.input_shape)
    images = jax.ShapeDtypeStruct((work.batch_size, *work.input_shape), jnp.float32)

    def compile_() -> tuple[jax.stages.Compiled, Place]:
        compiled = jax.jit(functools.partial(models.evaluate, model)).lower(shapes, images).compile()

        def place() -> Callable[[], Any]:
            arguments = (model_laws.fill(shapes), jnp.asarray(_images(work)))
            return lambda: compiled(*arguments)

        return compiled, place

    return compile_


def _train(work: Work) -> Callable[[], tuple[jax.stages.Compiled, Place]]:
    """One update of a run. Its learning rate is 0, so that every repeat computes with the same numbers."""
    cfg = work.config
    layout, rule = parallel.layout(cfg), optimizer.create(cfg.optimizer)
    rate = layout.replicate(np.float32(0))
    model = layout.model(resolve.build_model(cfg, num_classes=work.classes))
    task = tasks.create(cfg.task, _Examples(work.model, work.classes))
    feed = {
        "image": _images(work),
        "label": np.arange(work.batch_size, dtype=np.int32) % work.classes,
        "mask": np.ones(work.batch_size, np.float32),
    }
    placed = layout.split(feed)
    outputs = jax.ShapeDtypeStruct((work.batch_size, work.classes), jnp.float32)
    sums = jax.eval_shape(lambda o, batch: task.statistics(o, batch, train=True), outputs, feed)
    image = jax.ShapeDtypeStruct(work.input_shape, jnp.float32)
    shapes = layout.placed(state.shapes(model, rule, image, sums))
    made = step.train_step(model, task, rule, _fetch, axis_name=layout.axis_name, parts=layout.step_parts)

    def compile_() -> tuple[jax.stages.Compiled, Place]:
        compiled = layout.compile_train(made, shapes, {}, placed, rate)

        def place() -> Callable[[], Any]:
            current = layout.place(_filled(shapes, rule))

            def call() -> Any:
                nonlocal current
                current, measures = compiled(current, {}, placed, rate)
                return measures

            return call

        return compiled, place

    return compile_


@dataclass(frozen=True)
class _Examples:
    """What the task needs to know of data that there is none of."""

    name: str
    num_classes: int
    multi_label: bool = False
    labels: str = "class"


def _fetch(resident: PyTree, feed: PyTree, *, split: str, augment: bool) -> PyTree:
    """The feed: its images are what the network takes."""
    return feed


def _images(work: Work) -> np.ndarray:
    """A batch of standard normal noise, float32 "b *space c"."""
    return np.random.default_rng(0).standard_normal((work.batch_size, *work.input_shape), np.float32)


def _filled(shapes: state.TrainState, rule: Any) -> state.TrainState:
    """A state made from its shapes: compiling the network's `init` can take longer than all that is measured."""
    weights = model_laws.fill({"params": shapes.params, "batch_stats": shapes.batch_stats})
    params = weights["params"]
    return state.TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats=weights.get("batch_stats", {}),
        opt_state=jax.jit(rule.init, compiler_options=model_laws.QUICK)(params),
        key=jax.random.PRNGKey(0),
        statistics=jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes.statistics),
        ema={},
    )
