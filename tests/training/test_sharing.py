"""Runs that differ in numbers alone share their programs and their data, and end in the bits they have alone."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from research.config import Config, replace, to_json
from research.training import programs, record, resolve, sharing, train

ROOT = Path(__file__).resolve().parents[2]
BASE = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "data.train_examples": 320,
        "augmentation.pad_and_crop": 1,
        "task.label_smoothing": 0.1,
        "optimizer.name": "momentum",
        "optimizer.learning_rate": 0.05,
        "optimizer.weight_decay": 1e-3,
        "optimizer.clip_norm": 1.0,
        "optimizer.ema_decay": 0.9,
        "budget.train": "12 steps",
        "budget.eval_every": "6 steps",
        "checkpointing.every": "0 steps",
        "parallelism.devices": 1,
    },
)
# Each is an argument of the programs: another value compiles nothing.
NUMBERS = {
    "seed": 3,
    "task.label_smoothing": 0.3,
    "optimizer.learning_rate": 0.02,
    "optimizer.batch_scaling": "linear",
    "optimizer.momentum": 0.5,
    "optimizer.weight_decay": 0.1,
    "optimizer.clip_norm": 0.1,
    "optimizer.ema_decay": 0.5,
    "schedule.name": "constant",
    "schedule.warmup": "3 steps",
    "budget.train": "9 steps",
    "budget.eval_every": "3 steps",
    "checkpointing.keep_last": 1,
}
# Each is built into the programs: on and off, and what decides shapes.
STRUCTURE = {
    "model.name": "resnet8",
    "data.resolution": 20,
    "data.batch_size": 16,
    "data.eval_batch_size": 100,
    "data.train_examples": 300,
    "augmentation.pad_and_crop": 2,
    "task.loss": "sigmoid_binary_cross_entropy",
    "task.label_smoothing": 0.0,
    "optimizer.name": "nesterov",
    "optimizer.decay_on": "all",
    "optimizer.clip_norm": None,
    "optimizer.ema_decay": 0.0,
    "precision.matmul": "highest",
    "parallelism.mode": "pmap",
    "parallelism.devices": 2,
}


class Compilations:
    """How often JAX traced and compiled in a block."""

    def __enter__(self):
        self.traced = self.compiled = 0
        jax.monitoring.register_event_duration_secs_listener(self._note)
        return self

    def _note(self, name: str, seconds: float, **more) -> None:
        self.traced += name == "/jax/core/compile/jaxpr_trace_duration"
        self.compiled += name == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *error) -> None:
        jax.monitoring.unregister_event_duration_listener(self._note)


@pytest.fixture
def afresh():
    """A process that has trained nothing yet."""
    sharing.forget()


def test_a_sweep_over_seeds_and_numbers_compiles_once(tmp_path, afresh):
    with Compilations() as first:
        train(BASE, tmp_path / "base", display=False)
    assert first.compiled >= 3  # init, train step, evaluation
    with Compilations() as rest:
        digests = {
            train(replace(BASE, **{key: value}), tmp_path / key, display=False)["params_digest"]
            for key, value in NUMBERS.items()
        }
    assert (rest.traced, rest.compiled) == (0, 0)
    # They were trained with their own numbers; keep_last and eval_every change none, ema_decay no weights.
    assert len(digests) == len(NUMBERS) - 2


def in_a_process_of_their_own(folder: Path, *runs: Config) -> dict:
    """Train `runs` one after the other; the summary of the last, without what a clock wrote."""
    for number, cfg in enumerate(runs):
        (folder / f"{number}.json").write_text(to_json(cfg))
    program = (
        "import configs\n"
        "from research import training\n"
        f"for number in range({len(runs)}):\n"
        f"    training.train(configs.load(f'{folder}/{{number}}.json'), f'{folder}/run{{number}}', display=False)\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True)
    summary = record.read_summary(folder / f"run{len(runs) - 1}")
    return {key: value for key, value in summary.items() if key not in ("train_seconds", "compile_seconds")}


def test_runs_that_share_have_the_bits_of_runs_alone(tmp_path):
    """In fresh processes both: how many virtual devices a process has decides how XLA divides work among threads."""
    changes = {key: NUMBERS[key] for key in ("seed", "optimizer.weight_decay", "task.label_smoothing", "schedule.name")}
    changed = replace(BASE, **changes)
    (tmp_path / "shared").mkdir()
    (tmp_path / "alone").mkdir()
    shared = in_a_process_of_their_own(tmp_path / "shared", BASE, changed)
    assert shared == in_a_process_of_their_own(tmp_path / "alone", changed)


@pytest.mark.parametrize(("key", "value"), NUMBERS.items(), ids=NUMBERS)
def test_a_number_leaves_the_signature(key, value):
    assert resolve.resolve(replace(BASE, **{key: value})).signature == resolve.resolve(BASE).signature


@pytest.mark.parametrize(("key", "value"), STRUCTURE.items(), ids=STRUCTURE)
def test_what_shapes_a_program_is_in_the_signature(key, value):
    assert resolve.resolve(replace(BASE, **{key: value})).signature != resolve.resolve(BASE).signature


def test_the_number_off_is_no_number_of_the_state(afresh):
    off = {"task.label_smoothing": 0.0, "optimizer.ema_decay": 0.0}
    held = [set(resolve.resolve(replace(BASE, **change)).hyperparameters) for change in ({}, off)]
    assert held == [{"label_smoothing", "ema_decay"}, set()]


def test_the_examples_are_read_and_placed_once(afresh):
    one, other = (resolve.resolve(replace(BASE, seed=seed)) for seed in (0, 5))
    pipelines = [programs.pipeline_of(resolved) for resolved in (one, other)]
    placed = [sharing.on_devices(one.layout.replicate, one.layout, pipeline.resident) for pipeline in pipelines]
    assert placed[0]["train"]["image"] is placed[1]["train"]["image"]
    np.testing.assert_array_equal(placed[1]["train"]["image"], pipelines[0].resident["train"]["image"])
    assert not np.array_equal(placed[0]["seed"], placed[1]["seed"])
    assert [next(p.train(0))["index"][0] for p in pipelines] == [
        next(programs.pipeline_of(resolved).train(0))["index"][0] for resolved in (one, other)
    ]
    smaller = resolve.resolve(replace(BASE, **{"data.train_examples": 100}))
    assert len(programs.pipeline_of(smaller).resident["train"]["image"]) == 100


def test_what_is_kept_is_bounded():
    for number in range(100):
        sharing.once(("bounded", number), lambda number=number: number)
    assert sharing.once(("bounded", 99), lambda: "made again") == 99
    assert sharing.once(("bounded", 0), lambda: "made again") == "made again"
