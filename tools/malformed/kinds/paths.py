"""Paths: what is not there, is something else, has no end, cannot be written or cannot be a name at all."""

import os
import random
from pathlib import Path

from tools.malformed.case import Case, Place
from tools.malformed.mutation import garbage


def _obstacle(chance: random.Random, place: Place) -> str:
    """A path at or below which no folder can be."""
    way = chance.choice(("file", "below a file", "loop", "below a loop", "long", "far", "pipe", "dangling"))
    if way == "loop" or way == "below a loop":
        os.symlink("b", place.folder / "a")
        os.symlink("a", place.folder / "b")
        return "a" if way == "loop" else "a/b/c"
    if way == "long":
        return "n" * chance.randint(256, 5000)
    if way == "far":
        return "/".join(["n" * 200] * 30)
    if way == "pipe":
        os.mkfifo(place.folder / "pipe")
        return chance.choice(["pipe", "pipe/x"])
    if way == "dangling":
        os.symlink("/dev/null/nothing", place.folder / "link")
        return chance.choice(["link", "link/x"])
    name = place.write(chance.choice(["f", "a.txt", "W"]), garbage(chance))
    return name if way == "file" else f"{name}/x/y"


def workdir_that_cannot_be(chance: random.Random, place: Place) -> Case:
    """A folder to write to that cannot be one."""
    where = _obstacle(chance, place)
    command = chance.choice(
        [
            ["train", "digits"],
            ["sweep", "digits", "--grid", "seed=0,1"],
            ["study", "residual_vs_plain"],
            ["train", "digits:resnet8", "--optimizer.learning-rate", "0.2"],
        ]
    )
    return Case((*command, "--workdir", where), "no folder can be there")


def workdir_to_read_that_is_none(chance: random.Random, place: Place) -> Case:
    """A folder to read from that is none, or has no run in it."""
    where = chance.choice([_obstacle(chance, place), "nowhere", ".", "", "/dev/null", "/proc/self"])
    place.write("a.png", b"")
    command = chance.choice(
        [
            ["eval", "--workdir", where],
            ["predict", "a.png", "--workdir", where],
            ["export", "--out", "o", "--workdir", where],
            ["explain", "--image", "a.png", "--workdir", where],
            ["report", where],
            ["report", where, "."],
            ["status", where],
            ["status", where, "--json"],
            ["bench", "--workdir", where],
            ["train", "digits", "--transfer.weights", where, "--workdir", "W2"],
        ]
    )
    return Case(tuple(command), "no run there")


def read_only_folder(chance: random.Random, place: Place) -> Case:
    """A file system on which nothing can be written."""
    kept = place.folder / "kept"
    kept.mkdir()
    target = chance.choice(["kept", "kept/new", "kept/a/b"])
    command = chance.choice(
        [
            ["train", "digits:resnet8", "--workdir", target],
            ["sweep", "digits:resnet8", "--grid", "seed=0,1", "--workdir", target],
            ["study", "residual_vs_plain", "--workdir", target],
            ["inspect", "digits", "--schedule", "--out", "kept/rate.svg"],
            ["inspect", "digits", "--schedule", "--out", "kept/rate.html"],
        ]
    )
    return Case(tuple(command), "nothing can be written there", read_only=kept)


def read_only_sweep(chance: random.Random, place: Place) -> Case:
    """A sweep on a file system on which nothing can be written, and a command that would write."""
    folder, run = place.sweep(), ""
    run = f"sweep/runs/{next((folder / 'runs').iterdir()).name}"
    place.write("a.png", _png())
    command = chance.choice(
        [
            ["report", "sweep"],
            ["eval", "--workdir", run],
            ["explain", "--workdir", run, "--image", "a.png"],
            ["export", "--workdir", run, "--out", "sweep/o.stablehlo"],
            ["sweep", "digits:resnet8", "--grid", "seed=5,6", "--workdir", "sweep"],
        ]
    )
    return Case(tuple(command), "nothing can be written there", read_only=folder)


def _png() -> bytes:
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "png")
    return data.getvalue()


def output_that_cannot_be(chance: random.Random, place: Place) -> Case:
    """A file to write that cannot be one."""
    run = place.run().name
    place.write("a.png", _png())
    (place.folder / "folder.svg").mkdir()
    (place.folder / "folder.png").mkdir()
    bad = chance.choice(["nowhere/o", "a.png/o", "folder", "", "n" * 300, "loop/o"])
    os.symlink("loop", place.folder / "loop")
    suffix = chance.choice(["svg", "png", "html"])
    command = chance.choice(
        [
            ["export", "--workdir", run, "--out", bad if bad != "folder" else "folder.png"],
            ["explain", "--workdir", run, "--image", "a.png", "--out", f"{bad}.txt"],
            ["explain", "--workdir", run, "--image", "a.png", "--out", "folder.png"],
            ["explain", "--workdir", run, "--image", "a.png", "--out", f"a.png/{bad or 'x'}.png"],
            ["explain", "--workdir", run, "--image", "a.png", "--out", f"{'n' * 300}.png"],
            ["inspect", "digits", "--schedule", "--out", "folder.svg"],
            ["inspect", "digits", "--schedule", "--out", f"nowhere/x.{suffix}"],
            ["inspect", "digits", "--schedule", "--out", f"a.png/x.{suffix}"],
            ["inspect", "digits", "--schedule", "--out", f"{'n' * 300}.{suffix}"],
            ["inspect", "digits", "--schedule", "--out", f"loop/x.{suffix}"],
            ["inspect", "digits", "--schedule", "--out", chance.choice(["x", "x.gif", ".svg/", "x.sv", "x.svg "])],
        ]
    )
    return Case(tuple(command), "no file can be there")


def file_of_words_that_is_none(chance: random.Random, place: Place) -> Case:
    """Where a file should be, a folder, a pipe, a device, a link to itself, or nothing."""
    os.mkfifo(place.folder / "pipe.py")
    os.mkfifo(place.folder / "pipe.json")
    os.mkfifo(place.folder / "pipe")
    os.symlink("self.py", place.folder / "self.py")
    os.symlink("self.json", place.folder / "self.json")
    for name in ("folder.py", "folder.json"):
        (place.folder / name).mkdir()
    stem = chance.choice(["pipe", "self", "folder", "nowhere", "n" * 300, "folder.py/x", "self.py/x"])
    command = chance.choice(
        [
            ["train", f"{stem}.py", "--workdir", "W"],
            ["train", f"{stem}.json", "--workdir", "W"],
            ["plan", f"{stem}.py"],
            ["study", f"{stem}.py", "--workdir", "W"],
            ["train", "digits", "--model.name", f"{stem}.py:Net", "--workdir", "W"],
            ["train", "digits", "--task.loss", f"{stem}.py:loss", "--workdir", "W"],
            [
                "train",
                "digits",
                "--transfer.weights",
                chance.choice(["pipe", "/dev/zero", "self.py"]),
                "--workdir",
                "W",
            ],
            ["inspect", f"{stem}.py:Net"],
        ]
    )
    return Case(tuple(command), "no file")


def huge_file(chance: random.Random, place: Place) -> Case:
    """A file of terabytes, of which nothing is written."""
    name = chance.choice(["config.json", "own.py", "weights.pth", "weights.safetensors", "train/a/x.png", "x.png"])
    head = {"weights.pth": b"\x80\x02", "weights.safetensors": b"\x40\0\0\0\0\0\0\0{"}.get(name, b"")
    place.write(name, head)
    os.truncate(place.folder / name, 2**43)
    if name.endswith("x.png"):
        place.write("train/b/y.png", _png())
        Path(place.folder, "train/a/x.png").parent.mkdir(exist_ok=True, parents=True)
    train = ["--workdir", "W"]
    folder = ["train", "digits", "--data.name", "image_folder", "--data.path", ".", "--data.resolution", "32"]
    folder += ["--data.validation", "0.5"]
    command = {
        "config.json": ["train", "config.json", *train],
        "own.py": ["train", "own.py", *train],
        "train/a/x.png": [*folder, *train],
        "x.png": ["predict", "x.png", "--workdir", "run"],
    }.get(name, ["train", "digits", "--model.name", "resnet18", "--transfer.weights", name, *train])
    if name == "x.png":
        place.run()
    return Case(tuple(command), "too large for what it should be")
