"""Which runs train together: a function of the plan; and what a sweep of groups leaves, whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.config import Config, replace, to_json
from research.data import examples
from research.errors import UserError
from research.sweeps import grouping, store, study
from research.sweeps.plan import Planned
from research.sweeps.study import Study
from research.training import record, resolve, trial

ROOT = Path(__file__).resolve().parents[2]
NETWORK = """
import flax.linen as nn
import jax.numpy as jnp

class Linear(nn.Module):
    num_classes: int
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))
"""


@pytest.fixture
def base(tmp_path: Path) -> Config:
    (tmp_path / "network.py").write_text(NETWORK)
    changes = {"model.name": f"{tmp_path / 'network.py'}:Linear", "budget.train": "60 steps", "budget.eval_every": "0"}
    more = {"schedule.name": "constant", "data.train_examples": 256, "parallelism.devices": 1}
    return replace(Config(), **changes, **more, **{"checkpointing.every": "5 steps"})


def runs(base: Config, *rates: float, seeds: int = 2) -> list[Planned]:
    return [
        Planned(f"rate={rate}", "short", seed, replace(base, **{"optimizer.learning_rate": rate, "seed": seed}))
        for rate in rates
        for seed in range(seeds)
    ]


def made(planned: list[Planned]) -> Study:
    return Study("rates", "smoke", "Which rate?", "python launch.py study rates", tuple(planned))


def launched(planned: list[Planned], workdir: Path, **more) -> dict[str, str]:
    """Label -> status of what was run."""
    outcomes = study.launch(made(planned), workdir, say=lambda line: None, **more)
    return {outcome.job.label: outcome.status for outcome in outcomes}


def digests(workdir: Path) -> dict[str, str]:
    return {
        folder.name: json.loads((folder / "summary.json").read_text())["params_digest"]
        for folder in sorted((workdir / "runs").iterdir())
    }


def test_groups_are_chunks_of_what_is_alike_in_the_order_of_the_plan(base: Config) -> None:
    wide = replace(base, **{"data.batch_size": 64})
    configs = {f"{i}": replace(wide if i in (1, 4) else base, seed=i) for i in range(7)}
    configs["patient"] = replace(base, **{"budget.patience": 1})
    assert grouping.groups(configs, "2") == [["0", "2"], ["3", "5"], ["1", "4"]]  # the seventh is alone
    assert grouping.groups(configs, "8") == [["0", "2", "3", "5", "6"], ["1", "4"]]
    assert grouping.groups(configs, "1") == []


def test_by_itself_it_groups_no_convolutions_on_a_cpu_and_measures_the_rest(base: Config) -> None:
    small = replace(base, **{"model.name": "lenet5", "data.resolution": 16, "budget.train": "500 steps"})
    assert grouping.groups({str(seed): replace(small, seed=seed) for seed in range(4)}, "auto") == []
    assert grouping.groups({str(seed): replace(base, seed=seed) for seed in range(4)}, "auto") == []  # too short
    long = replace(base, **{"budget.train": "500 steps"})
    found = grouping.groups({str(seed): replace(long, seed=seed) for seed in range(4)}, "auto")
    assert found in ([], [["0", "1", "2", "3"]])


def test_a_trial_takes_one_run_at_a_time_or_one_to_a_core(base: Config) -> None:
    resolved = resolve.resolve(base)
    assert trial.at_once(resolved, 50) in (1, examples.cores())
    assert trial.at_once(resolved, 2) == 1  # too short to be measured


@pytest.mark.parametrize("word", ["0", "-1", "some", "1.5"])
def test_a_wrong_word_is_refused_before_anything_is_trained(word: str, base: Config, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected auto, or how many"):
        launched(runs(base, 0.1), tmp_path / "work", population=word)
    assert not (tmp_path / "work").exists()


def test_a_failed_member_is_an_outcome_and_tried_again_with_its_group(base: Config, tmp_path: Path) -> None:
    planned = runs(base, 0.1, 1e38, seeds=1) + runs(base, 0.01, seeds=1)
    expected = {"rate=0.1/short/0": "finished", "rate=1e+38/short/0": "failed", "rate=0.01/short/0": "finished"}
    assert launched(planned, tmp_path / "work", population="4") == expected
    before = digests(tmp_path / "work")
    assert launched(planned, tmp_path / "work", population="4") == {"rate=1e+38/short/0": "failed"}
    assert digests(tmp_path / "work") == before


def test_what_a_filter_leaves_for_later_has_the_bits_of_the_whole_group(base: Config, tmp_path: Path) -> None:
    planned = runs(base, 0.1, 0.01)
    launched(planned, tmp_path / "whole", population="4")
    assert len(launched(planned, tmp_path / "parts", population="4", pattern="*/0")) == 2
    assert len(launched(planned, tmp_path / "parts", population="4")) == 2
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")


def test_the_study_records_its_groups_and_keeps_them(base: Config, tmp_path: Path) -> None:
    planned, work = runs(base, 0.1, 0.01), tmp_path / "work"
    launched(planned, work, population="2")
    (entry,) = store.read_studies(work)
    ids = [run["id"] for run in entry["runs"]]
    assert entry["population"] == {"asked": "2", "of": ids, "groups": [ids[:2], ids[2:]]}
    assert launched(planned, work, population="2") == {}
    assert store.read_studies(work) == [entry]


def sweep(folder: Path, config: Path, *words: str, slow: float = 0.0) -> "subprocess.Popen[str]":
    """`launch.py sweep` of four runs in a process of its own, `slow` seconds in each step."""
    grid = ["--grid", "optimizer.learning-rate=0.1,0.01", "--seeds", "2"]
    argv = ["sweep", str(config), *grid, *words, "--workdir", str(folder)]
    program = (
        "import sys, time, launch\n"
        "from research.training import parallel\n"
        "split = parallel.Layout.split\n"
        f"parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
        f"sys.exit(launch.program({argv!r}))\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(process: "subprocess.Popen[str]", folder: Path, step: int) -> None:
    """Until a run of the sweep in `folder` has recorded `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = [run / "metrics.jsonl" for run in (folder / "runs").glob("*")]
        if any(row["step"] >= step for file in files for row in record.read_metrics(file)):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError(f"no step {step} within two minutes")


def rows(workdir: Path) -> dict[str, list[dict]]:
    """The records of every run, without what a clock wrote."""
    clock = ("wall_time", "images_per_second")
    return {
        folder.name: [
            {k: v for k, v in row.items() if k not in clock} for row in record.read_metrics(folder / "metrics.jsonl")
        ]
        for folder in sorted((workdir / "runs").iterdir())
    }


@pytest.mark.parametrize("words", [("--population", "4"), ("--threads", "2")], ids=lambda words: words[0].strip("-"))
def test_an_interrupted_sweep_ends_in_the_same_bits(words: tuple[str, str], base: Config, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(to_json(replace(base, **{"budget.log_every": "5 steps"})))
    assert sweep(tmp_path / "whole", config, *words).wait(timeout=200) == 0
    work = tmp_path / "work"
    killed = sweep(work, config, *words, slow=0.05)
    wait_for_step(killed, work, 15)
    killed.kill()
    killed.communicate(timeout=120)
    stopped = sweep(work, config, *words, slow=0.05)
    wait_for_step(stopped, work, 30)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 3, errors
    assert "Traceback" not in errors
    assert sweep(work, config, *words).wait(timeout=200) == 0
    assert digests(work) == digests(tmp_path / "whole")
    assert rows(work) == rows(tmp_path / "whole")
