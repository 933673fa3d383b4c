"""A group of runs in one step: each member is its run alone, and no member is another's business."""

import json

import jax
import numpy as np
import pytest

from research.config import Config, replace
from research.errors import Preempted
from research.training import checkpoint, evaluate, population, record, resolve, train
from research.training.population import Member

BASE = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "data.train_examples": 320,
        "augmentation.pad_and_crop": 1,
        "task.label_smoothing": 0.1,
        "optimizer.learning_rate": 0.05,
        "optimizer.ema_decay": 0.5,
        "budget.train": "20 steps",
        "budget.eval_every": "5 steps",
        "budget.log_every": "5 steps",
        "checkpointing.every": "4 steps",
        "parallelism.devices": 1,
    },
)
CONFIGS = [
    BASE,
    replace(BASE, seed=1),
    replace(BASE, **{"optimizer.learning_rate": 0.1, "optimizer.momentum": 0.5, "schedule.name": "constant"}),
    replace(BASE, **{"optimizer.weight_decay": 0.1, "task.label_smoothing": 0.3, "optimizer.ema_decay": 0.9}),
]
CLOCK = ("train_seconds", "compile_seconds", "wall_time", "images_per_second")


def members(folder, configs, finished=()):
    return [Member(f"m{i}", cfg, folder / f"m{i}", i not in finished) for i, cfg in enumerate(configs)]


def trained(folder, configs):
    return population.train(members(folder, configs), folder / "group", display=False)


def without_clock(row):
    return {key: value for key, value in row.items() if key not in CLOCK}


def records(folder):
    return [without_clock(row) for row in record.read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Folder and summaries of a group that nothing happened to."""
    folder = tmp_path_factory.mktemp("group")
    return folder, trained(folder, CONFIGS)


def final_weights(folder, cfg):
    found = checkpoint.Checkpoints(folder, cfg.checkpointing, read_only=True)
    return found.weights(found.find("last"))


@pytest.mark.parametrize("index", range(len(CONFIGS)))
def test_a_member_is_its_run_alone(group, index, tmp_path):
    folder, summaries = group
    alone = train(CONFIGS[index], tmp_path, display=False)
    assert summaries[index].keys() == alone.keys() | {"group"}
    pair = [final_weights(place, BASE)["params"] for place in (folder / f"m{index}", tmp_path)]
    for one, other in zip(*map(jax.tree.leaves, pair), strict=True):
        # Additions in another order, over 20 steps (measured: 1e-6 of the largest entry).
        assert np.max(np.abs(one - other)) <= 1e-4 * np.max(np.abs(other))
    mine, its = (records(place) for place in (folder / f"m{index}", tmp_path))
    assert [(row["step"], sorted(row)) for row in mine] == [(row["step"], sorted(row)) for row in its]
    for one, other in zip(mine, its, strict=True):
        if "eval/loss" in one:
            assert one["eval/loss"] == pytest.approx(other["eval/loss"], rel=1e-4)  # of such weights
        else:
            assert one["learning_rate"] == other["learning_rate"]
            assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-4)


def test_a_member_says_which_group_it_is_of_and_serves_alone(group):
    folder, summaries = group
    for index, summary in enumerate(summaries):
        expected = {"id": "group", "members": ["m0", "m1", "m2", "m3"], "index": index}
        run = record.read_run(folder / f"m{index}")
        assert (run.summary["group"], run.environment["group"]) == (expected, expected)
        again = evaluate(folder / f"m{index}", checkpoint="last")
        # The same weights through the program of one run.
        assert again["loss"] == pytest.approx(summary["eval/loss"], rel=1e-5)
        assert evaluate(folder / f"m{index}")["step"] == summary["best/step"]
    assert not (folder / "group").exists()


def test_a_member_that_fails_ends_and_changes_no_other(group, tmp_path):
    _, summaries = group
    wild = [*CONFIGS]
    wild[2] = replace(CONFIGS[2], **{"optimizer.learning_rate": 1e38})
    found = trained(tmp_path, wild)
    assert [summary["status"] for summary in found] == ["finished", "finished", "failed", "finished"]
    assert "loss" in found[2]["reason"]
    assert json.loads((tmp_path / "m2" / "summary.json").read_text())["status"] == "failed"
    for index in (0, 1, 3):
        assert found[index]["params_digest"] == summaries[index]["params_digest"]


def stopped_at(step, monkeypatch):
    """From `step` on, the next group to train is asked to stop."""
    original = population._Population._check

    def check(self, at, measures):
        if at >= step:
            self.asked.set()
        original(self, at, measures)

    monkeypatch.setattr(population._Population, "_check", check)


def test_an_interrupted_group_goes_on_as_one_to_the_same_bits(group, tmp_path, monkeypatch):
    folder, summaries = group
    with monkeypatch.context() as patched:
        stopped_at(10, patched)
        with pytest.raises(Preempted, match="same command continues"):
            trained(tmp_path, CONFIGS)
    assert {json.loads((tmp_path / f"m{i}" / "summary.json").read_text())["status"] for i in range(4)} == {"preempted"}
    assert [without_clock(summary) for summary in trained(tmp_path, CONFIGS)] == list(map(without_clock, summaries))
    for index in range(4):
        assert records(tmp_path / f"m{index}") == records(folder / f"m{index}")


def test_what_is_finished_trains_along_and_is_left_alone(group, tmp_path):
    """A group of which one member is lost: it comes back with the bits it had, and the others' folders stay."""
    _, summaries = group
    lost = members(tmp_path, CONFIGS, finished=(0, 2, 3))
    (found,) = population.train(lost, tmp_path / "group", display=False)
    assert without_clock(found) == without_clock(summaries[1])
    assert not any((tmp_path / f"m{index}").exists() for index in (0, 2, 3))


def test_a_run_begun_in_another_company_starts_anew(group, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stopped_at(10, patched)
        with pytest.raises(Preempted):
            trained(tmp_path, CONFIGS)
    assert (tmp_path / "m0" / "checkpoints").exists()
    alone = train(CONFIGS[0], tmp_path / "other", display=False)
    assert train(CONFIGS[0], tmp_path / "m0", display=False)["params_digest"] == alone["params_digest"]


@pytest.mark.parametrize(
    "change",
    [
        {"budget.patience": 2},
        {"data.input": "streaming"},
        {"parallelism.mode": "pmap"},
        {"parallelism.accumulate": 2},
        {"parallelism.devices": 4, "parallelism.sharding": "fsdp"},
        {"parallelism.devices": 4, "parallelism.batch_norm": "per_replica"},
    ],
    ids=lambda change: next(reversed(change)),
)
def test_what_cannot_train_in_one_step_has_no_lockstep(change):
    assert population.lockstep(resolve.resolve(replace(BASE, **change))) is None


def test_lockstep_is_the_same_for_seeds_and_numbers_and_no_more():
    keys = [population.lockstep(resolve.resolve(cfg)) for cfg in CONFIGS]
    assert None not in keys
    assert len(set(keys)) == 1
    for change in ({"budget.train": "21 steps"}, {"data.batch_size": 16}, {"checkpointing.every": "3 steps"}):
        assert population.lockstep(resolve.resolve(replace(BASE, **change))) not in {None, keys[0]}


def test_members_over_devices_equal_members_on_one(group, tmp_path):
    """The batch of every member is split over the devices, as that of a run alone."""
    _, summaries = group
    found = trained(tmp_path, [replace(cfg, **{"parallelism.devices": 4}) for cfg in CONFIGS[:2]])
    for summary, one in zip(found, summaries, strict=False):
        # Sums over the batch in another order, 20 steps long.
        assert summary["eval/loss"] == pytest.approx(one["eval/loss"], rel=1e-4)
