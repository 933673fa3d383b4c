"""The probes of a run: what is looked at inside its network before the first step, in its course and at its end."""

import contextlib
from typing import Any

import jax
import numpy as np

from research import data, probes
from research.training import parallel, programs, sharing, state
from research.training.resolve import Resolved

PyTree = Any


class Probing:
    """Compiled probes of a run, on its first training examples as they are, without augmentation."""

    def __init__(self, resolved: Resolved, pipeline: data.Pipeline, resident: PyTree) -> None:
        self._resolved, self._pipeline, self._resident = resolved, pipeline, resident
        self._names = resolved.config.probes.names
        self._examples = parallel.fit_batch(resolved.layout, resolved.config.probes.examples)

    def compile(self, like: state.TrainState) -> None:
        """Compile for states shaped as `like`."""
        key = "probes", self._names, self._examples, self._resolved.signature, self._pipeline.info
        self._compiled, self._order, self._zeros = sharing.once(key, lambda: self._compile(like))

    def _compile(self, like: state.TrainState) -> tuple[jax.stages.Compiled, list[tuple[str, str]], PyTree]:
        """The program, the keys of its results in the order in which layers run, and zeros like its results."""
        resolved, order = self._resolved, list[tuple[str, str]]()
        layout, task, model = resolved.layout, resolved.task, resolved.model

        def look(current: state.TrainState, resident: PyTree, feed: PyTree) -> PyTree:
            batch = self._pipeline.fetch(resident, feed, split="train", augment=False)
            variables = layout.gathered(current.variables)
            subject = probes.Subject(
                model,
                variables,
                batch["image"],
                loss=lambda outputs: task.loss(outputs, batch),
                error=lambda outputs: task.errors(outputs, batch),
            )
            found = {name: probes.get(name)(subject) for name in self._names}
            order[:] = [(name, layer) for name, of_layers in found.items() for layer in of_layers]
            return found

        feed = layout.split(programs.example_feed(self._pipeline, self._examples))
        shapes = jax.eval_shape(look, like, self._resident, feed)
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)

        def into(current: state.TrainState, resident: PyTree, feed: PyTree, sums: PyTree) -> PyTree:
            return look(current, resident, feed)  # as evaluation is compiled

        compiled = layout.compile_eval(into, like, self._resident, feed, layout.replicate(zeros))
        return compiled, order, zeros

    def __call__(self, current: state.TrainState) -> dict[str, float]:
        """`PROBE/LAYER` -> what was found, layers in the order in which they run."""
        layout = self._resolved.layout
        with contextlib.closing(self._pipeline.evaluate("train", self._examples)) as feeds:
            feed = layout.split(next(iter(feeds)))
        found = parallel.host(self._compiled(current, self._resident, feed, layout.replicate(self._zeros)))
        return {f"{name}/{layer}": float(found[name][layer]) for name, layer in self._order}
