"""The quiet phase: every network of a workdir is timed once, alone, and its runs know what was measured."""

import sys
from pathlib import Path
from typing import Any

import pytest

import launch
from research import overrides
from research.config import Config, DataConfig, ModelConfig, replace, to_dict
from research.errors import RunFailed, UserError
from research.sweeps import plan, results, store, study, timing
from research.sweeps.results import Result
from research.sweeps.study import Study
from research.values import Options

BASE = replace(
    Config(),
    **{"model.name": "resnet8", "model.width": 4, "data.train_examples": 128, "budget.train": "1 steps"},
    **{"budget.eval_every": "0 steps", "data.batch_size": 32},
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks at two seeds."""
    folder = tmp_path_factory.mktemp("timed")
    planned = plan.grid(BASE, ["model.width=2,4"], seeds=2)
    study.launch(Study("sweep", "width", "?", "?", tuple(planned)), folder, say=lambda line: None)
    return folder


def test_networks_are_timed_once_and_all_their_runs_know(workdir: Path) -> None:
    said: list[str] = []
    bench = [sys.executable, launch.__file__, "bench"]
    rows = timing.measure(workdir, bench, repeats=2, say=said.append)
    assert len(rows) == 2
    (found,) = results.read(workdir)
    by_width: dict[int, set[float]] = {}
    for result in found.results:
        own = result.timing
        width = result.config["model"]["options"]["width"]
        assert (own["model"], own["pass"], own["batch_size"]) == ("resnet8", "train", 32)
        assert (own["input_shape"], own["num_classes"], own["options"]) == ([8, 8, 1], 10, {"width": width})
        assert {key: own[key] for key in ("params", "macs", "activations")} == {
            key: result.summary[key] for key in ("params", "macs", "activations")
        }
        by_width.setdefault(width, set()).add(own["step_seconds"])
    assert {width: len(seconds) for width, seconds in by_width.items()} == {2: 1, 4: 1}
    assert timing.measure(workdir, ["never called"], say=said.append) == {}
    assert said[-1] == "0 networks timed, 2 were already"


def test_what_cannot_be_timed_is_said_and_what_was_stays(workdir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no study\.json"):
        timing.measure(tmp_path, ["x"])
    before = store.read_timings(workdir)
    (workdir / store.TIMINGS).unlink(missing_ok=True)
    with pytest.raises(RunFailed, match=r"timing width=2/.*: it ended without a word"):
        timing.measure(workdir, ["false"], say=lambda line: None)
    store.write_timings(workdir, before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientnet_lite0", {"keep_stages": (2, 3), "width_multiplier": 0.5, "stem": "cifar", "dropout": 0.0}),
        ("mobilenet_v1", {"shallow": True, "separable": False}),
    ],
)
def test_options_of_every_kind_are_said_as_the_bench_reads_them(name: str, options: dict[str, Any]) -> None:
    config = Config(model=ModelConfig(name, options=Options(options)), data=DataConfig("digits", resolution=8))
    words = timing._words(Result("id", "arm", "budget", 0, "", "finished", config=to_dict(config)))
    assert overrides.parse_fields(name, words[words.index("--compute") + 2 :]) == options
