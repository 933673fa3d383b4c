"""Real damage: cut and missing files of a checkpoint, a full disk, and another number of devices than before."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from research.config import Config, replace, to_json
from research.errors import RunFailed
from research.training import record, train
from tests.training.test_faults import ROOT, comparable, wait_for_step

CONFIG = replace(
    Config(),
    **{
        "model.name": "lenet5",
        "data.resolution": 16,
        "data.batch_size": 32,
        "augmentation.pad_and_crop": 1,
        "budget.train": "40 steps",
        "budget.eval_every": "20 steps",
        "budget.log_every": "10 steps",
        "checkpointing.every": "10 steps",
        "parallelism.devices": 1,
    },
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder and summary of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(CONFIG, folder, display=False)


def unfinished(whole, folder: Path) -> Path:
    """A copy of the run as it was before its last words, and the folder of its last checkpoint."""
    shutil.copytree(whole[0], folder)
    (folder / "summary.json").unlink()
    return folder / "checkpoints" / "40"


def largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def cut(step: Path) -> None:
    file = largest(step / "state")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(step: Path) -> None:
    largest(step / "state").write_bytes(b"")


def remove_data(step: Path) -> None:
    largest(step / "state").unlink()


def remove_digest(step: Path) -> None:
    shutil.rmtree(step / "progress")


def other_digest(step: Path) -> None:
    (file,) = [p for p in (step / "progress").rglob("*") if p.is_file() and b"digest" in p.read_bytes()]
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "digest": values["digest"][::-1]}))


@pytest.mark.parametrize("damage", [cut, empty, remove_data, remove_digest, other_digest], ids=lambda f: f.__name__)
def test_a_damaged_checkpoint_is_seen_and_the_one_before_it_used(damage, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    damage(unfinished(whole, folder))
    summary = train(CONFIG, folder, display=False)
    assert "checkpoint 40" in caplog.text
    assert "falling back" in caplog.text
    assert summary["params_digest"] == whole[1]["params_digest"]
    assert comparable(folder) == comparable(whole[0])


def start(folder: Path, cfg: Config, devices: int, *, slow: float = 0.0) -> subprocess.Popen:
    """`launch.py train` in a process that has this many devices."""
    file = folder.parent / f"{folder.name}.json"
    file.write_text(to_json(cfg))
    program = (
        "import sys, time, jax, launch\n"
        f"jax.config.update('jax_num_cpu_devices', {devices})\n"
        "from research.training import parallel\n"
        "split = parallel.Layout.split\n"
        f"parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
        f"sys.exit(launch.program(['train', {str(file)!r}, '--workdir', {str(folder)!r}]))\n"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("before", "after", "sharding"), [(8, 1, "replicated"), (1, 8, "fsdp"), (8, 2, "fsdp"), (2, 4, "replicated")]
)
def test_a_run_goes_on_with_another_number_of_devices(before, after, sharding, whole, tmp_path):
    cfg = replace(CONFIG, **{"parallelism.devices": None, "parallelism.sharding": sharding})
    folder = tmp_path / "run"
    process = start(folder, cfg, before, slow=0.1)
    wait_for_step(process, folder, 10)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    process = start(folder, cfg, after)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    summary = json.loads((folder / "summary.json").read_text())
    # Sums over the batch in another order, 40 steps long (measured: 1e-7 to 1e-6).
    assert summary["eval/loss"] == pytest.approx(whole[1]["eval/loss"], rel=1e-4)
    assert summary["step"] == 40


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 3 MB: room for a few checkpoints of half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.mount
def test_a_full_disk_fails_loudly_leaves_the_last_checkpoint_whole_and_the_run_goes_on(small_disk, tmp_path):
    cfg = replace(CONFIG, **{"data.resolution": 32, "checkpointing.every": "5 steps", "checkpointing.keep_last": 100})
    folder = small_disk / "run"
    process = start(folder, cfg, 1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert "no space left" in last
    sound = sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())
    assert sound
    assert f"step {sound[-1]}" in last
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    digests = []
    for workdir in (moved, tmp_path / "whole"):
        process = start(workdir, cfg, 1)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        digests.append(json.loads((workdir / "summary.json").read_text())["params_digest"])
    assert digests[0] == digests[1]
    rows = [row["step"] for row in record.read_metrics(moved / "metrics.jsonl")]
    assert rows == sorted(rows)


def test_a_loss_that_is_not_finite_leaves_step_rate_and_gradient_norm(tmp_path):
    wild = replace(
        CONFIG,
        **{"optimizer.weight_decay": 0.001, "optimizer.learning_rate": 1e20, "schedule.name": "constant"},
    )
    with pytest.raises(RunFailed, match=r"learning rate 1e\+20, gradient norm"):
        train(wild, tmp_path / "run", display=False)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert 1 < summary["step"] <= 4
    assert summary["learning_rate"] == pytest.approx(1e20)
    assert summary["gradient_norm"] in ("nan", "inf")
    assert "loss" in summary["reason"]
