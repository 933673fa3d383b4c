"""The store and what is read from it, on run folders written by hand."""

from pathlib import Path
from typing import Any

import pytest

from research.config import Config, to_dict
from research.errors import UserError
from research.sweeps import results, store
from research.sweeps.identity import RunIdentity, identity
from research.training import record

OLD, NEW = "0ld" * 20, "4ew" * 20


def write_run(workdir: Path, run: RunIdentity, status: str | None, device: str = "cpu") -> None:
    """A run folder with the records that a run with this status leaves; None: it has not ended."""
    folder = workdir / "runs" / run.id
    folder.mkdir(parents=True)
    record.write_json(folder / "config.json", to_dict(Config()))
    environment = {"device": {"platform": device, "device_kind": device, "devices": 1}, "code_digest": run.code_digest}
    record.write_json(folder / "environment.json", environment)
    (folder / "metrics.jsonl").write_text(record.metrics_line({"step": 5, "eval/top1": 0.5}))
    if status is not None:
        record.write_json(folder / "summary.json", {"status": status, "step": 9, "eval/top1": 0.75})


def entry(name: str, scale: str, runs: dict[str, RunIdentity]) -> dict[str, Any]:
    listed = []
    for label, run in runs.items():
        arm, budget, seed = label.split("/")
        listed.append({"id": run.id, "arm": arm, "budget": budget, "seed": int(seed), "target_macs": 7, "reason": ""})
    return {"name": name, "scale": scale, "question": "Why?", "command": "python launch.py", "axes": [], "runs": listed}


def named(name: str, code: str = NEW) -> RunIdentity:
    return identity(name, code, "data")


def test_runs_are_read_with_the_state_their_folder_is_in(tmp_path: Path) -> None:
    states = {"finished": "finished", "failed": "failed", "preempted": "preempted", "running": None}
    for name, status in states.items():
        write_run(tmp_path, named(name), status)
    labels = [*states, "waiting"]
    store.write_study(tmp_path, entry("depth", "smoke", {f"{name}/d/0": named(name) for name in labels}))
    (study,) = results.read(tmp_path)
    assert (study.name, study.scale, study.question, study.command) == ("depth", "smoke", "Why?", "python launch.py")
    assert {r.arm: r.status for r in study.results} == {name: name for name in labels}
    assert results.count(study.results) == dict.fromkeys(store.STATES, 1)
    finished, *_, running, waiting = study.results
    assert (finished.label, finished.seed, finished.target_macs) == ("finished/d/0", 0, 7)
    assert finished.summary == {"status": "finished", "step": 9, "eval/top1": 0.75}
    assert finished.conditions == "cpu, float32, matmul default"
    assert running.metrics == [{"step": 5, "eval/top1": 0.5}]
    assert running.summary == {}
    assert (waiting.config, waiting.metrics, waiting.conditions) == ({}, [], "")


def test_a_damaged_record_is_an_error_and_not_a_missing_run(tmp_path: Path) -> None:
    write_run(tmp_path, named("a"), "finished")
    metrics = tmp_path / "runs" / named("a").id / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("0.5", "0.9") + metrics.read_text())
    store.write_study(tmp_path, entry("depth", "smoke", {"a/d/0": named("a")}))
    with pytest.raises(UserError, match="the checksum of line 1 does not match"):
        results.read(tmp_path)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"study\.json"):
        results.read(tmp_path)


def test_launching_again_replaces_a_study_and_leaves_the_others(tmp_path: Path) -> None:
    first, other = entry("depth", "smoke", {}), entry("width", "smoke", {})
    for written in (first, other, entry("depth", "small", {}), {**first, "command": "later"}):
        store.write_study(tmp_path, written)
    names = [(s["name"], s["scale"], s["command"]) for s in store.read_studies(tmp_path)]
    assert names == [
        ("depth", "smoke", "later"),
        ("width", "smoke", "python launch.py"),
        ("depth", "small", "python launch.py"),
    ]


def test_older_code_serves_only_where_it_is_accepted_and_finished(tmp_path: Path) -> None:
    for name, status in {"a": "finished", "b": "failed"}.items():
        write_run(tmp_path, named(name, OLD), status)
    assert store.locate(tmp_path, named("a")) == named("a")
    assert store.locate(tmp_path, named("a"), [OLD]) == named("a", OLD)
    assert store.locate(tmp_path, named("b"), [OLD]) == named("b")
    write_run(tmp_path, named("a"), "finished")
    assert store.locate(tmp_path, named("a"), [OLD]) == named("a"), "present code wins"


def test_code_is_accepted_by_the_start_of_its_digest(tmp_path: Path) -> None:
    write_run(tmp_path, named("a", OLD), "finished")
    write_run(tmp_path, named("b", OLD[:20] + "0" * 40), "finished")
    assert store.code_digests(tmp_path)[OLD] == 1
    assert store.resolve_code(tmp_path, [OLD]) == [OLD]
    assert store.resolve_code(tmp_path, []) == []
    for digest, words in {OLD[:4]: "0ld0ld", "f" * 12: "code digest", OLD[:12]: "fits 2"}.items():
        with pytest.raises(UserError, match=words):
            store.resolve_code(tmp_path, [digest])


def result(label: str, run: str, status: str = "finished") -> results.Result:
    arm, budget, seed = label.split("/")
    return results.Result(run, arm, budget, int(seed), f"runs/{run}", status)


def study(*found: results.Result, name: str = "depth") -> results.StudyRecord:
    return results.StudyRecord(name, "smoke", "Why?", "python launch.py", list(found))


def test_folders_are_merged_run_by_run() -> None:
    here = study(result("a/d/0", "1"), result("a/d/1", "2", "waiting"), result("b/d/0", "3"))
    there = study(result("a/d/0", "1", "waiting"), result("a/d/1", "2"), result("b/d/0", "4"), result("c/d/0", "5"))
    merged, other = results.merge([("here", [here]), ("there", [there, study(result("a/d/0", "1"), name="width")])])
    assert [(r.label, r.id, r.status) for r in merged.results] == [
        ("a/d/0", "1", "finished"),
        ("a/d/1", "2", "finished"),
        ("b/d/0", "3", "finished"),
        ("b@there/d/0", "4", "finished"),
        ("c/d/0", "5", "finished"),
    ]
    assert other.name == "width"


def test_folders_of_the_same_name_stay_apart() -> None:
    folders = [("runs", [study(result("a/d/0", run))]) for run in ("1", "2", "3", "2")]
    (merged,) = results.merge(folders)
    assert [(r.arm, r.id) for r in merged.results] == [("a", "1"), ("a@runs", "2"), ("a@runs-2", "3")]


RUN = {"id": "0" * 16, "arm": "a", "budget": "b", "seed": 0}
ENTRY = {"name": "sweep", "scale": "s", "question": "q", "command": "c", "axes": [], "runs": [RUN]}


@pytest.mark.parametrize(
    "studies",
    [
        None,
        {},
        [3],
        [{**ENTRY, "name": 3}],
        [{key: value for key, value in ENTRY.items() if key != "scale"}],
        [{**ENTRY, "axes": "ab"}],
        [{**ENTRY, "runs": {}}],
        [{**ENTRY, "runs": [3]}],
        [{**ENTRY, "runs": [RUN, RUN]}],
        *([{**ENTRY, "runs": [{**RUN, "id": id_}]}] for id_ in ("..", "../" + "0" * 13, "/etc", "", "0" * 17, 3, None)),
        *([{**ENTRY, "runs": [{**RUN, "seed": seed}]}] for seed in ("0", 0.5, None, True)),
        [{**ENTRY, "runs": [{**RUN, "arm": None}]}],
        [{**ENTRY, "runs": [{**RUN, "path": "/etc"}]}],
    ],
)
def test_a_study_that_cannot_be_is_damaged_and_leads_nowhere(tmp_path: Path, studies: Any) -> None:
    record.write_json(tmp_path / store.STUDY, {"studies": [ENTRY]})
    assert store.read_studies(tmp_path) == [ENTRY]
    record.write_json(tmp_path / store.STUDY, {"studies": studies})
    with pytest.raises(UserError, match=r"study\.json is damaged"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {**to_dict(Config()), "seed": "x"}),
        ("config.json", {**to_dict(Config()), "model": 3}),
        ("environment.json", {"device": "cpu"}),
        ("environment.json", {"versions": {}}),
        ("summary.json", {"status": "done"}),
        ("summary.json", {"step": 3}),
    ],
)
def test_a_record_of_another_type_is_named(tmp_path: Path, file: str, values: dict[str, Any]) -> None:
    run = named("a")
    write_run(tmp_path, run, "finished")
    store.write_study(tmp_path, entry("depth", "smoke", {"a/d/0": run}))
    results.read(tmp_path)
    record.write_json(tmp_path / "runs" / run.id / file, values)
    with pytest.raises(UserError, match=rf"{file} is damaged"):
        results.read(tmp_path)


def test_keys_of_another_version_are_no_damage(tmp_path: Path) -> None:
    run, values = named("a"), to_dict(Config())
    write_run(tmp_path, run, "finished")
    store.write_study(tmp_path, entry("depth", "smoke", {"a/d/0": run}))
    older = {**values, "gone": 3, "data": {**values["data"], "gone": 3}}
    record.write_json(tmp_path / "runs" / run.id / "config.json", older)
    assert results.read(tmp_path)[0].results[0].config == older
