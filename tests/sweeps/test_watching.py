"""What `launch.py status` says of a sweep: read from records and leases alone."""

import json
import time
from pathlib import Path

import launch
from research import storage
from research.sweeps import store, watching
from research.training import lease, record


def written(workdir: Path, states: dict[str, str | None]) -> None:
    """A study of these runs, by name; None has not begun, `going` has, and has no summary yet."""
    runs = [{"id": name * 16, "arm": name, "budget": "short", "seed": 0} for name in states]
    record.write_json(workdir / store.STUDY, {"studies": [{"name": "study", "scale": "smoke", "runs": runs}]})
    for name, state in states.items():
        folder = store.run_folder(workdir, name * 16)
        if state is not None:
            storage.write(folder / record.CONFIG, "{}")
        if state not in (None, "going"):
            record.write_json(folder / record.SUMMARY, {"status": state, "step": 9, "reason": "it was <b>hot</b>\n"})


def test_each_state_is_told_and_one_that_nobody_trains_any_more(tmp_path: Path, monkeypatch) -> None:
    states = {"a": None, "b": "going", "c": "going", "d": "failed", "e": "finished"}
    written(tmp_path, states)
    held = lease.take(store.run_folder(tmp_path, "b" * 16))
    held.done(100, 400)
    monkeypatch.setattr(lease.time, "monotonic", lambda now=time.monotonic(): now + 50)
    held.done(200, 400)
    held.beat()
    monkeypatch.undo()
    rows = {row["run"][0]: row for row in watching.rows(tmp_path)}
    assert [rows[name]["status"] for name in states] == ["waiting", "running", "running", "failed", "finished"]
    assert (rows["b"]["step"], rows["b"]["steps"], round(rows["b"]["seconds_left"])) == (200, 400, 100)
    assert rows["c"]["reason"].endswith("is gone; the same command continues")
    assert watching.line(rows["b"]).endswith("b step 200 of 400 1m40s left")
    assert watching.line(rows["d"]).endswith("d step 9 it was <b>hot</b>")
    assert watching.counts(rows.values()) == "1 failed, 1 finished, 2 running, 1 waiting"
    held.release()
    assert "gone" in watching.line(next(row for row in watching.rows(tmp_path) if row["id"] == "b" * 16))


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path, capsys) -> None:
    written(tmp_path, {"a": "finished", "b": "finished"})
    (store.run_folder(tmp_path, "a" * 16) / record.SUMMARY).write_text('{"status": "fin')
    assert launch.main(["status", str(tmp_path), "--json"]) == 0
    a, b = json.loads(capsys.readouterr().out)
    assert (a["status"], b["status"]) == ("failed", "finished")
    assert "summary.json is damaged" in a["reason"]


def test_the_table_that_follows_ends_when_the_runs_have(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(watching, "EVERY", 0.01)
    written(tmp_path, {"a": "finished", "b": "going", "c": "failed"})
    folder = store.run_folder(tmp_path, "b" * 16)
    held = lease.take(folder)
    held.done(30, 60)
    held.beat()
    looks = []

    def look(workdir):
        looks.append(len(looks))
        if len(looks) == 3:
            record.write_json(folder / record.SUMMARY, {"status": "finished", "step": 60})
        return watching.rows(workdir)

    watching.follow(tmp_path, look=look)
    held.release()
    assert len(looks) == 3
    shown = " ".join(capsys.readouterr().out.split())  # lines are broken where the terminal ends
    assert "it was <b>hot</b>" in shown
    assert "1 failed, 2 finished" in shown
