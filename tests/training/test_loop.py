"""What the loop decides: when a run ends early, what it records of averaged weights and gradients."""

import json

import pytest

from research.config import Config, replace
from research.training import evaluate, loop, record, train

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


def test_the_gradient_norm_is_recorded(tmp_path):
    train(replace(CONFIG, **{"budget.train": "40 steps"}), tmp_path, display=False)
    norms = [
        row["train/gradient_norm"] for row in record.read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in row
    ]
    assert len(norms) == 2
    assert all(0 < norm < 100 for norm in norms)


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
    assert loop.disk_is_full(caught.value)
    assert not loop.disk_is_full(OSError(2, "No such file"))
