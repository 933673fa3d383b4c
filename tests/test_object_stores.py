"""Workdirs on object stores: leases, records and checkpoints, through `launch.py` itself, on servers on loopback."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

import launch
from research import storage, training
from research.config import Config, replace, to_json
from research.errors import UserError
from research.sweeps import results
from research.training import lease, record, trained
from research.training.archive import Archive
from tests import stores
from tests.sweeps.test_store import write_at_once
from tests.sweeps.trouble import config as trouble
from tests.training import test_processes as together
from tests.training.test_lease import Holder

pytestmark = pytest.mark.store
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, stores.Store]]:
    """Both stores, found by this process and by those it starts."""
    folder = tmp_path_factory.mktemp("servers")
    with stores.s3(folder) as s3, stores.gs(folder) as gs, pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3.environment, **gs.environment}.items():
            patch.setenv(name, value)
        yield {"s3": s3, "gs": gs}


@pytest.fixture(params=["s3", "gs"])
def folder(servers: dict[str, stores.Store], request: pytest.FixtureRequest) -> str:
    """A folder of its own for each test, in each store."""
    return f"{servers[request.param].url}/{re.sub(r'[^a-z0-9]+', '-', request.node.name)}"


@pytest.fixture
def in_s3(servers: dict[str, stores.Store], request: pytest.FixtureRequest) -> str:
    return f"{servers['s3'].url}/{request.node.name}"


@pytest.fixture
def base(tmp_path: Path) -> Config:
    return replace(trouble(tmp_path), **{"budget.log_every": "2 steps"})


def start(folder: Path, *words: str, slow: float = 0.0) -> "subprocess.Popen[str]":
    """`launch.py` in a process of its own; `slow` seconds in each step."""
    (folder / "slow").mkdir(exist_ok=True)
    (folder / "slow" / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'train' in sys.orig_argv or any(word.endswith('worker') for word in sys.orig_argv):\n"
        "    from research.training import parallel\n"
        "    split = parallel.Layout.split\n"
        f"    parallel.Layout.split = lambda self, feed, **more: (time.sleep({slow}), split(self, feed, **more))[1]\n"
    )
    paths = [str(ROOT), *([str(folder / "slow")] if slow else [])]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "launch.py"), *words],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *words: str) -> str:
    process = start(folder, *words)
    out, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return out


def wait_for(process: "subprocess.Popen[str]", what: Any) -> None:
    """Until `what` is true of the store."""
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def digests(workdir: str) -> dict[str, str]:
    found = {}
    for name in storage.names(f"{workdir}/runs"):
        found[name] = record.read_json(f"{workdir}/runs/{name}/{record.SUMMARY}")["params_digest"]
    return found


def test_a_file_is_created_once(folder: str) -> None:
    texts = [f"{number}" * 1000 for number in range(8)]
    for round_ in range(4):
        file = f"{folder}/{round_}.json"
        made = storage.each(lambda text, file=file: storage.create(file, text), texts, folder)
        assert sum(made) == 1
        assert storage.read(file) == texts[made.index(True)].encode()
    assert storage.names(folder) == ["0.json", "1.json", "2.json", "3.json"], "and no probe is left"


def test_what_another_process_writes_is_seen(folder: str) -> None:
    """No listing is kept, by epath neither."""
    place = storage.reach(folder)
    assert (storage.names(folder), place.exists()) == ([], False)
    script = f"from research import storage; storage.write({folder!r} + '/file', 'text')"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
    assert (storage.names(folder), place.exists(), [file.name for file in place.iterdir()]) == (
        ["file"],
        True,
        ["file"],
    )


def test_a_store_without_conditional_writes_is_refused(in_s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    system = storage._store(in_s3)
    write = system.pipe_file
    monkeypatch.setattr(system, "pipe_file", lambda path, data, mode="": write(path, data))
    monkeypatch.setattr(storage, "_sound", set())
    with pytest.raises(UserError, match="s3://runs has no conditional writes"):
        lease.take(in_s3)


def test_a_store_that_cannot_be_written_to_is_refused(servers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for scheme in servers:
        assert launch.main(["train", "digits", "--workdir", f"{scheme}://elsewhere/run"]) == 2
        assert capsys.readouterr().err.startswith(f"error: {scheme}://elsewhere cannot be written to: ")


def test_of_many_that_take_at_once_one_gets_each_number(folder: str) -> None:
    def takes(_: int) -> list[int]:
        tokens = []
        while len(tokens) < 4:
            try:
                mine = lease.take(folder, patient=False)
            except lease.InUse:
                continue
            mine.check()
            tokens.append(mine.token)
            mine.release()
        return tokens

    found = storage.each(takes, range(4), folder)
    assert sorted(token for tokens in found for token in tokens) == list(range(1, 17))


def test_a_dead_holder_is_followed_at_once_and_one_that_slept_writes_no_more(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 2.0)
    first = Holder(folder)  # type: ignore[arg-type]
    with pytest.raises(lease.InUse, match=f"process {first.process.pid} on"):
        lease.take(folder, patient=False)
    first.end()
    second = Holder(folder)  # type: ignore[arg-type]
    assert second.token == 2
    os.kill(second.process.pid, signal.SIGSTOP)
    time.sleep(0.5)  # a sign of life that was on its way arrives
    try:
        mine = lease.take(folder)
        assert mine.token == 3
    finally:
        os.kill(second.process.pid, signal.SIGCONT)
    assert "lease 3, this one has 2" in second.say("check")
    assert storage.names(f"{folder}/{lease.FOLDER}") == ["00000003.json"]
    mine.release()
    second.end()


def test_two_launches_at_once_lose_no_entry(folder: str) -> None:
    write_at_once(folder)


def test_records_are_not_written_for_each_row_and_none_is_lost(
    servers: dict[str, stores.Store], in_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = record.MetricsWriter(in_s3, start_step=0)
    servers["s3"].asked()
    for step in range(1, 1001):
        writer.write({"step": step, "train/loss": 1.0})
    assert servers["s3"].asked().total() == 0
    writer.flush()
    assert len(record.read_metrics(f"{in_s3}/{record.METRICS}")) == 1000
    monkeypatch.setattr(record, "EVERY", 0.0)
    monkeypatch.setattr(storage, "write", lambda *given: (_ for _ in ()).throw(OSError("it stumbles")))
    writer._due = 0.0
    writer.write({"step": 1001, "train/loss": 1.0})
    with pytest.raises(OSError, match="it stumbles"):
        writer.flush()
    monkeypatch.undo()
    writer.flush()
    record.MetricsWriter(in_s3, start_step=1000)  # what came after step 1000 is of a run that was cut off
    assert [row["step"] for row in record.read_metrics(f"{in_s3}/{record.METRICS}")] == list(range(1, 1001))


def test_the_last_and_the_best_checkpoints_are_kept(folder: str, tmp_path: Path) -> None:
    archive = Archive(folder, keep_last=2, asynchronous=True)
    local = tmp_path / "checkpoints" / "1"
    local.mkdir(parents=True)
    for step, best in ((1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (6, 3)):
        (local / "state").write_text(f"{step}")
        archive.save(step, local, best)
        archive.wait()
    archive.close()
    assert storage.names(folder) == ["3.json", "3.tar", "5.json", "5.tar", "6.json", "6.tar"]

    def lost() -> None:
        raise lease.Lost("it went to another process")

    late = Archive(folder, keep_last=2, asynchronous=True, check=lost)
    late.save(7, local, 7)
    with pytest.raises(lease.Lost):
        late.close()
    again = Archive(folder, keep_last=2, asynchronous=True)
    assert again.steps() == [3, 5, 6]
    again.fetch(3, tmp_path / "checkpoints" / "3")
    assert (tmp_path / "checkpoints" / "3" / "state").read_text() == "3"
    again.close()


def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_as_it_would_have(
    folder: str, base: Config, tmp_path: Path
) -> None:
    whole = training.train(base, tmp_path / "whole", display=False)
    assert training.train(base, folder, display=False)["params_digest"] == whole["params_digest"]
    checkpoints = f"{folder}/checkpoints"
    assert {"15.json", "15.tar", "20.json", "20.tar"} <= set(storage.names(checkpoints))
    content = bytearray(storage.read(f"{checkpoints}/20.tar") or b"")
    content[len(content) // 2 :] = b""
    storage.write(f"{checkpoints}/20.tar", bytes(content))
    storage.remove(f"{folder}/{record.SUMMARY}")
    again = training.train(base, folder, display=False)
    assert (again["params_digest"], again["status"]) == (whole["params_digest"], "finished")
    rows = [row["step"] for row in record.read_metrics(f"{folder}/{record.METRICS}") if "train/loss" in row]
    assert rows == list(range(2, 21, 2))
    assert trained.load(folder, checkpoint="last").step == 20


def test_a_run_is_killed_goes_on_and_is_used(base: Config, in_s3: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(to_json(base))
    words = ["train", "config.json", "--workdir"]
    said = json.loads(run(tmp_path, *words, "whole"))
    killed = start(tmp_path, *words, in_s3, slow=2.0)  # there still when another process has started
    wait_for(killed, lambda: "10.json" in storage.names(f"{in_s3}/checkpoints"))
    beside = start(tmp_path, *words, in_s3)
    _, errors = beside.communicate(timeout=100)
    assert (beside.returncode, "is in use: process" in errors) == (2, True), errors
    killed.kill()
    killed.communicate()
    assert storage.read(f"{in_s3}/{record.SUMMARY}") is None
    assert max(row["step"] for row in record.read_metrics(f"{in_s3}/{record.METRICS}")) >= 10
    ended = run(tmp_path, *words, in_s3)
    assert json.loads(ended)["params_digest"] == said["params_digest"]
    assert run(tmp_path, *words, in_s3) == ended, "its seconds too: nothing is trained again"
    rows = record.read_metrics(f"{in_s3}/{record.METRICS}")
    local = record.read_metrics(tmp_path / "whole" / record.METRICS)
    assert [row.get("train/loss") for row in rows] == [row.get("train/loss") for row in local]

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    storage.write(f"{in_s3}/image.png", (tmp_path / "image.png").read_bytes())
    there = json.loads(run(tmp_path, "predict", "--json", "--workdir", in_s3, f"{in_s3}/image.png"))
    here = json.loads(run(tmp_path, "predict", "--json", "--workdir", "whole", "image.png"))
    assert there[0]["classes"] == here[0]["classes"]
    for at in ("whole", in_s3):
        run(tmp_path, "eval", "--workdir", at)
    assert record.read_json(f"{in_s3}/eval-digits-20.json") == record.read_json(tmp_path / "whole/eval-digits-20.json")


def test_several_processes_train_there_and_go_on_after_one_was_killed(folder: str, tmp_path: Path) -> None:
    """With split parameters, of which no process has the whole."""
    config, at = together.LONGER, tmp_path / "run"
    whole = together.trained(tmp_path / "whole", config, 2, 2)
    started = together.start(at, [config] * 2, 2, slow=0.1, workdir=folder)
    wait_for(started[0], lambda: "12.json" in storage.names(f"{folder}/checkpoints"))
    started[1].kill()
    outcomes = together.ended(started, within=60)
    assert outcomes[0][0] != 0, outcomes
    assert "Traceback" not in outcomes[0][2]
    together.trained(at, config, 2, 2, workdir=folder)
    ended = record.read_json(f"{folder}/{record.SUMMARY}")
    assert ended["params_digest"] == together.summary(whole)["params_digest"]
    rows, expected = (record.read_metrics(f"{place}/{record.METRICS}") for place in (folder, whole))
    assert [row.get("train/loss") for row in rows] == [row.get("train/loss") for row in expected]
    assert storage.names(f"{folder}/checkpoints") == ["36.json", "36.tar", "40.json", "40.tar"]
    assert trained.load(folder, checkpoint="last").step == 40, "by one process"


def test_no_request_is_made_for_a_step(
    servers: dict[str, stores.Store], base: Config, in_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "BEAT", 1000.0)
    counted = []
    for steps in (100, 1100):
        budget = {"budget.train": f"{steps} steps", "checkpointing.every": f"{steps} steps"}
        servers["s3"].asked()
        training.train(replace(base, **budget), f"{in_s3}/{steps}", display=False)
        counted.append(servers["s3"].asked().total())
    assert counted[1] - counted[0] <= 10, counted  # a record in ten seconds


def test_sweeps_share_the_work_and_report_it(base: Config, in_s3: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(to_json(base))
    grid = ["--grid", "optimizer.learning-rate=0.1,0.05", "--seeds", "2"]
    words = ["sweep", "config.json", *grid, "--workers", "2", "--cpus-per-run", "1", "--workdir"]
    out = run(tmp_path, *words, "whole")
    assert "4 run, 0 failed" in out
    both = [start(tmp_path, *words, in_s3, slow=0.05), start(tmp_path, *words, in_s3, slow=0.05)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    ran = [line.split("  ")[0].partition("] ")[2] for out, _ in said for line in out.splitlines() if "] " in line]
    assert sorted(ran) == sorted(set(ran)), "each is trained by one of them"
    assert len(ran) == 4
    assert digests(in_s3) == digests(str(tmp_path / "whole"))
    logs = [name for pool in storage.names(f"{in_s3}/logs") for name in storage.names(f"{in_s3}/logs/{pool}")]
    assert sorted(set(logs)) == ["worker-0.log", "worker-1.log"]
    again = run(tmp_path, *words, in_s3)
    assert "0 run, 0 failed, 4 not needed again" in again
    assert again.splitlines()[-1] == f"{in_s3}/report.html"
    page = (storage.read(f"{in_s3}/report.html") or b"").decode()
    assert page.count("runs/") >= 4
    assert in_s3 not in page.replace(f"--workdir {in_s3}", ""), "its links are relative"
    status = json.loads(run(tmp_path, "status", "--json", in_s3))
    assert [row["status"] for row in status] == ["finished"] * 4
    assert len(results.read(in_s3)[0].results) == 4


def test_a_sweep_in_one_process_trains_groups_there(
    folder: str, base: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(to_json(base))
    words = ["sweep", str(tmp_path / "config.json"), "--grid", "seed=0:3:1", "--population", "2", "--workdir"]
    for at in (str(tmp_path / "whole"), folder):
        assert launch.main([*words, at]) == 0
    assert digests(folder) == digests(str(tmp_path / "whole"))
    assert storage.names(f"{folder}/groups") == [], "removed with its last member"
    capsys.readouterr()
    assert launch.main(["report", folder, "--open"]) == 2
    assert "--open shows files of this machine" in capsys.readouterr().err
    assert launch.main(["report", folder, str(tmp_path / "whole")]) == 0
    assert capsys.readouterr().out.strip() == f"{folder}/merged/report.html"
    assert launch.main(["status", folder]) == 0
    assert "4 finished" in capsys.readouterr().out


@pytest.mark.networks  # whose sizes are symbols while they are exported
def test_networks_and_pictures_are_written_there(in_s3: str, base: Config, tmp_path: Path) -> None:
    cfg = replace(base, **{"model.name": "lenet5", "data.resolution": 16, "budget.train": "2 steps"})
    training.train(cfg, in_s3, display=False)
    assert launch.main(["export", "--workdir", in_s3, "--out", f"{in_s3}/network"]) == 0
    assert jax_export.deserialize(bytearray(storage.read(f"{in_s3}/network") or b"")).in_avals[0].shape[1:] == (
        16,
        16,
        1,
    )
    assert record.read_json(f"{in_s3}/network.json")["output"]["meaning"] == "probability of each class"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "image.png")
    assert launch.main(["explain", "--workdir", in_s3, "--image", str(tmp_path / "image.png")]) == 0
    with Image.open(io.BytesIO(storage.read(f"{in_s3}/explain/image.png") or b"")) as picture:
        assert picture.format == "PNG"
