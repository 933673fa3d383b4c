"""The folder for TensorBoard: labels that lead to the events of their runs, whatever the labels are."""

from pathlib import Path

from research.sweeps import board, store

a1, a2, b1 = (name * 8 for name in ("a1", "a2", "b1"))  # ids of runs


def written(workdir: Path, runs: dict[str, tuple[str, str, int]], scale: str = "smoke") -> None:
    """A study with these runs: id -> arm, budget, seed."""
    rows = [{"id": id_, "arm": arm, "budget": budget, "seed": seed} for id_, (arm, budget, seed) in runs.items()]
    store.write_study(workdir, {"name": "study", "scale": scale, "runs": rows})


def leads(workdir: Path) -> dict[str, str]:
    """Where each label's link leads, by the run's id."""
    root = workdir / "tensorboard"
    links = (path for path in root.rglob("*") if path.is_symlink())
    return {str(link.relative_to(root)): link.resolve().relative_to(workdir.resolve()).parts[1] for link in links}


def test_each_label_leads_to_its_run_also_before_it_begins_and_where_the_folder_moves(tmp_path: Path) -> None:
    first = tmp_path / "first"
    written(first, {a1: ("plain", "depth8", 0), a2: ("plain", "depth8", 1)})
    board.link(first)
    assert leads(first) == {"study smoke/plain/depth8/0": a1, "study smoke/plain/depth8/1": a2}
    events = store.run_folder(first, a2) / "tensorboard" / "events.out"
    events.parent.mkdir(parents=True)
    events.write_text("")
    moved = first.rename(tmp_path / "moved")
    assert [path.name for path in (moved / "tensorboard/study smoke/plain/depth8/1").iterdir()] == ["events.out"]


def test_what_is_planned_otherwise_by_now_is_linked_otherwise(tmp_path: Path) -> None:
    written(tmp_path, {a1: ("plain", "depth8", 0), a2: ("wide", "depth8", 0)})
    written(tmp_path, {a1: ("plain", "depth8", 0)}, scale="small")
    board.link(tmp_path)
    written(tmp_path, {b1: ("plain", "depth8", 0)})
    for _ in range(2):
        board.link(tmp_path)
        assert leads(tmp_path) == {"study smoke/plain/depth8/0": b1, "study small/plain/depth8/0": a1}
    assert sorted(path.name for path in (tmp_path / "tensorboard/study smoke").iterdir()) == ["plain"]
    own = tmp_path / "tensorboard" / "events.of.the.users"
    own.write_text("")
    board.link(tmp_path)
    assert own.exists()


def test_labels_stay_inside_the_folder_and_apart_from_each_other(tmp_path: Path) -> None:
    arms = ["..", ".", "", "../../x", "/etc", "a/b", "a_b", "a%2Fb", "\ud800", "x" * 300, "x" * 301, "é" * 150, "a\nb"]
    written(tmp_path, {f"{n:016x}": (arm, "short", 0) for n, arm in enumerate(arms)})
    board.link(tmp_path)
    found = leads(tmp_path)
    assert sorted(found.values()) == sorted(f"{n:016x}" for n in range(len(arms)))
    assert {path.name for path in tmp_path.iterdir()} == {".lease", "study.json", "tensorboard"}
