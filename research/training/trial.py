"""Which way to train many runs that share their programs is the fastest here: measured, in steps.

Three ways: one run after the other, some at a time in threads of this process, or as populations of k in one step.
On a CPU a network with convolutions is not tried as a population: XLA computes the convolutions of k members under
`vmap` one after the other at best (docs/performance.md). What is compiled for a trial is kept for the runs.
"""

import itertools
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import jax
import numpy as np

from research import data
from research.data.examples import cores
from research.training import loop, programs, resolve, sharing
from research.training.resolve import Resolved

PyTree = Any
WORTH = 400  # steps of all the runs from which on measuring pays
SHARE = 1600  # a timed round is one in so many of the steps of all the runs: a trial takes half a hundredth of many
GAIN = 0.9  # of the time of one run after the other: populations are taken where they need less than that
MOST = 16  # members of a population tried
LONGEST = 0.1  # seconds of a step from which on one run keeps all cores busy by itself
_ROUNDS, _LEAST, _MOST = 3, 2, 6  # rounds; steps of each


class _Stepping:
    """States of `count` runs, stepped one by one or together."""

    def __init__(self, resolved: Resolved, pipeline: data.Pipeline, count: int) -> None:
        self.resolved, self.pipeline, self.count, self.layout = resolved, pipeline, count, resolved.layout
        with closing(pipeline.train(0)) as feeds:
            self.feed = next(feeds)

    def alone(self) -> Callable[[], None]:
        """One step of one run."""
        resolved, layout = self.resolved, self.layout
        current = programs.new_state(resolved, self.pipeline)
        resident = sharing.on_devices(layout.replicate, layout, self.pipeline.resident)
        compiled = sharing.once(
            ("train", resolved.signature),
            lambda: programs.compile_train(resolved, self.pipeline, current, resident),
        )
        return self._repeated(compiled, current, resident, layout.split(self.feed, parts=layout.parts), np.float32(0))

    def together(self) -> Callable[[], None]:
        """One step of all of them as a population."""
        resolved, layout, count = self.resolved, self.layout, self.count
        current = layout.place(programs.stacked([programs.new_state(resolved, self.pipeline)] * count))
        seeds = np.stack([self.pipeline.resident["seed"]] * count)
        shared = {**self.pipeline.resident, "seed": seeds}
        resident = sharing.on_devices(layout.replicate, layout, shared)
        compiled = sharing.once(
            ("members", count, resolved.signature),
            lambda: programs.compile_members(resolved, self.pipeline, current, resident, count),
        )
        feed = layout.split(programs.stacked([self.feed] * count), members=True)
        return self._repeated(compiled, current, resident, feed, np.zeros(count, np.float32))

    def _repeated(
        self, compiled: Any, current: PyTree, resident: PyTree, feed: PyTree, rate: Any
    ) -> Callable[[], None]:
        placed = self.layout.replicate(rate)

        def step() -> None:
            nonlocal current
            current, measures = compiled(current, resident, feed, placed)
            jax.block_until_ready(measures)

        step()  # the first allocates
        return step


def _seconds(*ways: Callable[[], None]) -> list[float]:
    """The seconds that each way takes, in turn: medians of rounds."""
    times: list[list[float]] = [[] for _ in ways]
    for _, (number, way) in itertools.product(range(_ROUNDS), enumerate(ways)):
        began = time.perf_counter()
        way()
        times[number].append(time.perf_counter() - began)
    return [statistics.median(of_way) for of_way in times]


def _length(steps: int) -> int:
    """Steps of a timed round, for runs of so many `steps` together."""
    return min(_MOST, max(_LEAST, steps // SHARE))


def _steps(step: Callable[[], None], length: int) -> Callable[[], None]:
    def several() -> None:
        for _ in range(length):
            step()

    return several


def _threads(steps: list[Callable[[], None]], length: int) -> Callable[[], None]:
    def all_of_them() -> None:
        threads = [threading.Thread(target=_steps(step, length)) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return all_of_them


def at_once(resolved: Resolved, runs: int) -> int:
    """How many of `runs` runs like `resolved` to train at a time, each in a thread: 1, or one to each core of a CPU."""
    count = cores()
    if runs * resolved.steps < WORTH or runs < count:
        return 1
    devices = resolved.layout.devices
    if count == 1 or len(devices) > 1 or devices[0].platform != "cpu":
        return 1
    with resolve.matmul_precision(resolved.config):
        stepping = _Stepping(resolved, programs.pipeline_of(resolved), count)
        steps = [stepping.alone() for _ in range(count)]
        began = time.perf_counter()
        steps[0]()
        if time.perf_counter() - began > LONGEST:
            return 1
        length = _length(runs * resolved.steps)
        one, many = _seconds(_steps(steps[0], length), _threads(steps, length))
    # as fast will do: what is not a step (evaluating, saving, recording) goes on beside the steps of another run
    return count if many / count < one else 1


def members(resolved: Resolved, count: int) -> int:
    """How many of `count` runs like `resolved` to train in one step: 1 where that is no faster, or does not fit."""
    on_cpu = resolved.layout.devices[0].platform == "cpu"
    if count * resolved.steps < WORTH:
        return 1
    if on_cpu and any(layer.kind == "convolution" for layer in loop.cost(resolved).layers):
        return 1
    pipeline, count = programs.pipeline_of(resolved), min(count, MOST)
    with resolve.matmul_precision(resolved.config):
        while count > 1:
            stepping = _Stepping(resolved, pipeline, count)
            try:
                length = _length(count * resolved.steps)
                one, all_ = _seconds(_steps(stepping.alone(), length), _steps(stepping.together(), length))
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                count //= 2
                continue
            return count if all_ / count < GAIN * one else 1
    return 1
