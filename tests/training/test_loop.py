"""What the loop decides: when a run ends early, what it records of averaged weights and gradients."""

import json

import jax
import numpy as np
import pytest

from research import data
from research.config import Config, replace
from research.errors import RunFailed
from research.training import checkpoint, disk, evaluate, parallel, programs, record, resolve, train
from tests.data.conftest import write_folder

CONFIG = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "optimizer.learning_rate": 0.05,
        "schedule.name": "constant",
        "budget.train": "200 steps",
        "budget.eval_every": "10 steps",
        "budget.log_every": "20 steps",
        "checkpointing.every": "0 steps",
        "parallelism.devices": 1,
    },
)


def test_a_run_without_progress_ends_early_and_stays_ended(tmp_path):
    """The rate falls to nothing after 40 steps: no evaluation is better than that at 40 by more than chance."""
    stuck = {"schedule.name": "step", "schedule.boundaries": (0.2,), "schedule.factor": 1e-30, "budget.patience": 3}
    cfg = replace(CONFIG, **stuck)
    summary = train(cfg, tmp_path, display=False)
    evaluated = [row for row in record.read_metrics(tmp_path / "metrics.jsonl") if "eval/top1" in row]
    best, since = None, 0
    for row in evaluated:
        since = 0 if best is None or row["eval/top1"] > best else since + 1
        best = max(row["eval/top1"], best or 0)
    assert since == 3
    assert summary["stopped_early"]
    assert summary["status"] == "finished"
    assert summary["step"] == evaluated[-1]["step"] < 200
    assert train(cfg, tmp_path, display=False) == summary
    # Killed after the last save and before the summary: it must not train on.
    (tmp_path / "summary.json").unlink()
    again = train(cfg, tmp_path, display=False)
    assert (again["step"], again["params_digest"]) == (summary["step"], summary["params_digest"])


def test_a_run_that_ends_early_leaves_what_any_run_leaves(tmp_path):
    cfg = replace(CONFIG, **{"budget.patience": 1, "optimizer.learning_rate": 0.0, "checkpointing.every": "1000 steps"})
    summary = train(cfg, tmp_path, display=False)
    rows = record.read_metrics(tmp_path / "metrics.jsonl")
    assert summary["stopped_early"]
    assert summary["step"] == rows[-1]["step"] == 20  # the first evaluation is the best, the second no better
    assert len(rows[-1]["eval/confusion_matrix"]) == 10
    assert evaluate(tmp_path, checkpoint="last")["step"] == 20


def test_patience_used_up_by_the_last_evaluation_is_no_early_end(tmp_path):
    cfg = replace(CONFIG, **{"budget.patience": 1, "optimizer.learning_rate": 0.0, "budget.train": "20 steps"})
    assert "stopped_early" not in train(cfg, tmp_path, display=False)


def test_patience_that_is_not_used_up_changes_nothing(tmp_path):
    cfg = replace(CONFIG, **{"budget.train": "40 steps"})
    one = train(cfg, tmp_path / "one", display=False)
    other = train(replace(cfg, **{"budget.patience": 9}), tmp_path / "other", display=False)
    assert one["params_digest"] == other["params_digest"]
    assert "stopped_early" not in other


def test_averaged_weights_are_evaluated_recorded_and_restored(tmp_path):
    cfg = replace(CONFIG, **{"budget.train": "40 steps", "optimizer.ema_decay": 0.9})
    summary = train(cfg, tmp_path, display=False)
    rows = record.read_metrics(tmp_path / "metrics.jsonl")
    assert {"eval/top1", "eval_ema/top1", "eval_ema/loss"} <= rows[-1].keys()
    assert summary["eval_ema/top1"] == rows[-1]["eval_ema/top1"]
    found = evaluate(tmp_path, checkpoint="last")
    assert found["ema/top1"] == summary["eval_ema/top1"]
    assert found["top1"] == summary["eval/top1"]


def test_the_gradient_norm_that_is_recorded_is_the_steps(tmp_path):
    """Gradient descent at rate 1 without decay moves the weights by the gradient: its norm is that of the movement."""
    cfg = replace(
        CONFIG,
        **{
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 1.0,
            "budget.train": "2 steps",
            "budget.log_every": "1 steps",
            "checkpointing.every": "1 steps",
            "checkpointing.keep_last": 9,
        },
    )
    train(cfg, tmp_path, display=False)
    resolved = resolve.resolve(cfg)
    shapes = programs.state_shapes(resolved, data.pipeline(cfg.data, seed=0))
    found = checkpoint.Checkpoints(tmp_path, cfg.checkpointing, read_only=True)
    one, two = (parallel.host(found.restore(step, shapes)[0].params) for step in (1, 2))
    moved = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True)))
    rows = record.read_metrics(tmp_path / "metrics.jsonl")
    (norm,) = [row["train/gradient_norm"] for row in rows if row["step"] == 2 and "train/loss" in row]
    # The movement is read off weights of about 0.1 in float32: 1e-8 each, against 0.01 and more.
    assert norm == pytest.approx(moved, rel=1e-4)


SMALL = {
    "model.name": "resnet8",
    "model.width": 4,
    "data.resolution": 8,
    "data.eval_batch_size": 96,
    "budget.train": "2 steps",
    "parallelism.devices": 4,
}
# Nearly each value that is not the default stands beside each other one somewhere, where the two go together.
COMBINATIONS = [
    {"mode": "pmap", "accumulate": 2, "remat": True},
    {"mode": "pmap", "batch_norm": "per_replica", "input": "streaming"},
    {"batch_norm": "per_replica", "accumulate": 4, "remat": True, "ema": True},
    {"sharding": "fsdp", "accumulate": 2, "remat": True, "input": "streaming", "ema": True},
    {"mode": "pmap", "ema": True, "mix": True, "remat": True, "input": "streaming"},
    {"batch_norm": "per_replica", "mix": True, "input": "streaming", "compute": "bfloat16"},
    {"sharding": "fsdp", "mix": True, "compute": "bfloat16"},
    {"sharding": "fsdp", "mix": True},
]
KEYS = {
    "input": "data.input",
    "compute": "precision.compute",
    "ema": "optimizer.ema_decay",
    "mix": "augmentation.mixup",
}


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: "-".join(map(str, chosen)))
def test_ways_to_compute_a_step_go_together(chosen, tmp_path):
    """The whole loop, with batch statistics estimated anew: what a step alone would not show."""
    values = {KEYS.get(key, f"parallelism.{key}"): 0.5 if key in ("ema", "mix") else v for key, v in chosen.items()}
    cfg = replace(CONFIG, **SMALL, **{"evaluation.batch_norm_batches": 2}, **values)
    summary = train(cfg, tmp_path, display=False)
    assert summary["status"] == "finished"
    assert ("eval_ema/loss" in summary) == chosen.get("ema", False)
    again = evaluate(tmp_path, checkpoint="last")
    assert again["loss"] == pytest.approx(summary["eval/loss"], rel=1e-6)  # the same program on the same weights


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_turns_out_damaged_fails_the_run_by_name(workers, tmp_path):
    root = write_folder(tmp_path / "set", {"train": 20, "test": 2})
    (root / "train" / "dog" / "17.png").write_bytes(b"no image")
    folder = {
        "data.name": "image_folder",
        "data.path": str(root),
        "data.input": "streaming",
        "data.workers": workers,
        "data.mean": (100.0,) * 3,
        "data.std": (50.0,) * 3,
        "data.batch_size": 4,
        "budget.train": "15 steps",  # of 60 images: each is met once
    }
    cfg = replace(CONFIG, **{**SMALL, **folder})
    with pytest.raises(RunFailed, match=r"train/dog/17\.png"):
        train(cfg, tmp_path / "run", display=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], "17.png" in summary["reason"]) == ("failed", True)
    skipping = train(replace(cfg, **{"data.corrupt": "skip"}), tmp_path / "skipping", display=False)
    assert skipping["status"] == "finished"


def test_determinism_and_precision_are_recorded(tmp_path):
    cfg = replace(CONFIG, **{"budget.train": "1 steps", "precision.matmul": "highest"})
    train(cfg, tmp_path, display=False)
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["matmul_precision"] == "highest"
    assert environment["determinism"]["asked_for"] is True


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), ValueError("RESOURCE: No space left on device; writing x")],
)
def test_a_full_disk_is_known_through_what_libraries_make_of_it(error):
    def save():
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("saving failed") from inner

    with pytest.raises(RuntimeError) as caught:
        save()
    assert disk.trouble(caught.value) == "no space left"
    assert not disk.trouble(OSError(2, "No such file"))
