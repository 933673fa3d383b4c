"""Folders of runs and sweeps whose records or checkpoints are damaged, or say what cannot be."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tools.malformed.case import Case, Place
from tools.malformed.kinds.images import encoded
from tools.malformed.mutation import HOSTILE, at, cut, garbage, no_json_object, other_type, places, put, removed, typo


def _use(chance: random.Random, place: Place) -> tuple[str, ...]:
    """A command that needs config.json, environment.json and a checkpoint of `run`."""
    picture = place.write("a.png", encoded(chance, "png", "L"))
    return chance.choice(
        [
            ("predict", "--workdir", "run", picture),
            ("explain", "--workdir", "run", "--image", picture, "--out", "o.png"),
            ("export", "--workdir", "run", "--out", "o"),
        ]
    )


def _load(file: Path) -> Any:
    return json.loads(file.read_text())


def broken_record(chance: random.Random, place: Place) -> Case:
    """A record of a run that is no JSON text of an object."""
    run = place.run()
    name = chance.choice(["config.json", "environment.json"])  # a run with a damaged summary is trained again
    (run / name).write_bytes(no_json_object(chance, _load(run / name)))
    words = (
        chance.choice([_use(chance, place), ("eval", "--workdir", "run")])
        if name == "config.json"
        else _use(chance, place)
    )
    return Case(words, f"{name} is damaged")


def wrong_record(chance: random.Random, place: Place) -> Case:
    """A record of a run with a value that cannot be, or without one that must be."""
    run = place.run()
    name = chance.choice(["config.json", "environment.json"])
    values = _load(run / name)
    if name == "config.json":
        path = chance.choice([p for p in places(values) if at(values, p) is not None and p != ("notes",)])
        if path == ("model", "options"):
            path = ("model",)
        values = put(values, path, other_type(chance, at(values, path)))
    else:
        images = ("shape", "crop_fraction", "interpolation", "mean", "std", "class_names")
        wrong: dict[str, list[Any]] = {
            "shape": [[8, 8], [0, 8, 1], [-8, 8, 1], [8, 8, 2], [10**9, 10**9, 1], ["8", "8", "1"], [8.5, 8, 1]],
            "crop_fraction": [0, -1, 1e-300, "1", 2],
            "interpolation": ["nearest", "", "os.system"],
            "mean": [[], [1, 2], ["x"], 3],
            "std": [[], [0], [1, 2], ["x"], [-1]],
            "class_names": [[], ["a"], [1] * 10, ["a"] * 1000, "0123456789"],
        }
        key = chance.choice(images)
        way = chance.choice(("value", "value", "gone", "type", "network"))
        if way == "value":
            values["images"][key] = chance.choice(wrong[key])
        elif way == "gone":
            values = removed(values, chance.choice([("images",), ("network",), ("images", key), ("network", "fields")]))
        elif way == "type":
            path = chance.choice([("images",), ("network",), ("images", key), ("network", "fields")])
            values = put(values, path, other_type(chance, at(values, path)))
        else:
            values["network"]["fields"] = chance.choice(
                [
                    {"num_classes": "ten"},
                    {"num_classes": 3},
                    {"num_classes": 10**15},
                    {"num_classes": 10, "no_such_field": 1},
                    {"num_classes": 10, "shortcut": "../../x"},
                    {},
                ]
            )
    (run / name).write_text(json.dumps(values))
    return Case(_use(chance, place), f"{name} says what cannot be")


def damaged_checkpoint(chance: random.Random, place: Place) -> Case:
    """A run whose checkpoints are missing, cut, changed or something else."""
    run = place.run()
    files = sorted(p for p in (run / "checkpoints").rglob("*") if p.is_file())
    way = chance.choice(("gone", "empty", "file", "cut", "bit", "named", "progress", "state"))
    if way == "gone":
        shutil.rmtree(run / "checkpoints")
    elif way == "empty":
        for file in files:
            file.write_bytes(b"")
    elif way == "file":
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").write_bytes(b"x")
    elif way == "named":
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints" / chance.choice(["99999999999999999999", "-1", "x", "7"])).mkdir(parents=True)
    elif way in ("progress", "state"):
        for found in list((run / "checkpoints").glob(f"*/{way}")):
            shutil.rmtree(found)
    else:  # every checkpoint's largest file: numbers of its state
        for step in (run / "checkpoints").iterdir():
            inside = [p for p in (step / "state").rglob("*") if p.is_file()]
            if not inside:
                continue
            largest = max(inside, key=lambda p: p.stat().st_size)
            data = bytearray(largest.read_bytes())
            data[len(data) // 2] ^= 1 << chance.randrange(8)
            largest.write_bytes(bytes(data) if way == "bit" else cut(chance, bytes(data)))
    words = chance.choice([_use(chance, place), ("eval", "--workdir", "run")])
    if way == "bit":  # a bit of a compressed array may be one that says nothing: the digest then still matches
        for step in (run / "checkpoints").iterdir():
            for file in (step / "progress").rglob("*") if (step / "progress").is_dir() else ():
                if file.is_file() and b"digest" in file.read_bytes():
                    file.write_bytes(file.read_bytes().replace(b'digest": "', b'digest": "0', 2))
    return Case(words, f"checkpoints: {way}")


def damaged_metrics(chance: random.Random, place: Place) -> Case:
    """A line of metrics.jsonl that is not the one that was written."""
    sweep = place.sweep()
    (run,) = (sweep / "runs").iterdir()
    file = run / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    number = chance.randrange(len(lines) - 1)
    row = json.loads(lines[number])
    damaged = chance.choice(
        [
            lines[number][: len(lines[number]) // 2] + b"\n",
            json.dumps(row | {"step": row["step"] + 1}).encode() + b"\n",
            json.dumps({k: v for k, v in row.items() if k != "checksum"}).encode() + b"\n",
            json.dumps([1, 2]).encode() + b"\n",
            b"\xff\xfe\n",
            b"[" * 100_000 + b"\n",
            garbage(chance).replace(b"\n", b"x") + b"\n",
            b'{"step": NaN, "checksum": "00000000"}\n',
        ]
    )
    file.write_bytes(b"".join([*lines[:number], damaged, *lines[number + 1 :]]))
    words = chance.choice([("report", "sweep"), ("report", "sweep", "sweep"), ("bench", "--workdir", "sweep")])
    return Case(words, f"line {number + 1} is damaged")


def _reading(chance: random.Random) -> tuple[str, ...]:
    again = ("sweep", "digits:resnet8", "--grid", "seed=0,1", "--workdir", "sweep")
    readers = [("report", "sweep"), ("status", "sweep"), ("status", "sweep", "--json"), ("bench", "--workdir", "sweep")]
    return chance.choice([*readers, again])


def broken_study(chance: random.Random, place: Place) -> Case:
    """A study.json that is no JSON text of an object."""
    sweep = place.sweep()
    (sweep / "study.json").write_bytes(no_json_object(chance, _load(sweep / "study.json")))
    return Case(_reading(chance), "study.json is damaged")


def wrong_study(chance: random.Random, place: Place) -> Case:
    """A study.json with what cannot be: other types, runs elsewhere, names of nothing."""
    sweep = place.sweep()
    values = _load(sweep / "study.json")
    way = chance.choice(("type", "gone", "id", "name", "twice"))
    keys = ("studies", "runs", "id", "arm", "budget", "seed", "name", "scale", "question", "command", "axes")
    found = [p for p in places(values) if p[-1] in keys]
    words = _reading(chance)
    if way == "type":
        path = chance.choice(found)
        values = put(values, path, other_type(chance, at(values, path)))
    elif way == "gone":
        values = removed(values, chance.choice([p for p in found if p[-1] not in ("question", "command", "axes")]))
    elif way == "id":
        path = chance.choice([p for p in found if p[-1] == "id"])
        outside = ["..", "../..", ".", "", "/etc", "../runs/x", "x\x00y", "%2e%2e", "~", *HOSTILE]
        values = put(values, path, chance.choice(outside))
    elif way == "name":
        path = chance.choice([p for p in found if p[-1] == "name"])
        place.write("sweep/own.py", "import pathlib\npathlib.Path('ran').touch()\n")
        known = ["residual_vs_plain", "sweep"]
        name = chance.choice(
            [typo(chance, "residual_vs_plain", known), "sweep/own.py", "nowhere.py", "", "os", *HOSTILE]
        )
        values, words = put(values, path, name), ("report", "sweep")
    else:
        runs = values["studies"][0]["runs"]
        values = put(values, ("studies", 0, "runs"), [*runs, *runs])
    (sweep / "study.json").write_text(json.dumps(values))
    return Case(words, f"study.json: {way}")


def wrong_records_of_a_sweep(chance: random.Random, place: Place) -> Case:
    """Records of a sweep's run that are damaged or say what cannot be, for a report."""
    sweep = place.sweep()
    (run,) = (sweep / "runs").iterdir()
    name = chance.choice(["config.json", "environment.json", "summary.json", "timings.json"])
    file = sweep / name if name == "timings.json" else run / name
    sound = {} if name == "timings.json" else _load(file)
    if chance.random() < 0.6 or name == "timings.json":
        file.write_bytes(no_json_object(chance, sound or {"a": {"b": 1}}))
    else:
        wrong = {
            "config.json": ("seed", "model", "data", "budget"),
            "summary.json": ("status",),
            "environment.json": ("device",),
        }[name]
        key = chance.choice(wrong)
        file.write_text(json.dumps(put(sound, (key,), other_type(chance, sound[key]))))
    return Case(("report", "sweep"), f"{name} is none")


def folder_of_another_run(chance: random.Random, place: Place) -> Case:
    """A folder to continue in that holds another run, or half of one."""
    run = place.run()
    way = chance.choice(("other", "no config", "other, damaged"))
    words: tuple[str, ...] = ("train", "run/config.json", "--workdir", "run")
    if way.startswith("other"):
        words = (*words, "--seed", str(chance.randint(5, 99)))
    else:
        words = ("train", "digits:resnet8", "--workdir", "run")
        (run / "config.json").unlink()
    if way == "other, damaged":
        values = _load(run / "summary.json")
        status = chance.choice([None, 3, "", "done", "finished\n", [], {"finished": 1}])
        (run / "summary.json").write_text(json.dumps(values | {"status": status}))
    return Case(words, f"the folder: {way}")
