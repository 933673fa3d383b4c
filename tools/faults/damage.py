"""Damage to files: which, and how."""

import random
from pathlib import Path

RECORDS = ("summary.json", "environment.json", "config.json", "metrics.jsonl")


def records(work: Path, chance: random.Random) -> list[Path]:
    """One record of each run, and the study's, in random order."""
    runs = sorted((work / "runs").iterdir())
    found = [[file for name in RECORDS if (file := run / name).exists()] for run in runs]
    return _shuffled([*(chance.choice(files) for files in found if files), work / "study.json"], chance)


def checkpoints(work: Path, chance: random.Random) -> list[Path]:
    """One file of the checkpoints of each run or group that has one, in random order; large ones as often as small."""
    folders = [*sorted(work.glob("runs/*/checkpoints")), *sorted(work.glob("groups/*/checkpoints"))]
    found = [[file for file in sorted(folder.rglob("*")) if file.is_file()] for folder in folders]
    return _shuffled([chance.choice(files) for files in found if files], chance)


def leases(work: Path, chance: random.Random) -> list[Path]:
    """Leases of runs and groups, in random order."""
    return _shuffled(sorted([*work.glob("runs/*/.lease/*.json"), *work.glob("groups/*/.lease/*.json")]), chance)


def kind(file: Path) -> str:
    """The word for a record."""
    return {"metrics.jsonl": "file of metrics"}.get(file.name, file.stem)


def apply(file: Path, chance: random.Random) -> str:
    """Flip one bit of a file, or cut its end off; what was done."""
    content = bytearray(file.read_bytes())
    if not content or chance.random() < 0.35:
        file.write_bytes(bytes(content[: chance.randrange(len(content) or 1)]))
        return "truncation"
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(content))
    return "flipped bit"


def _shuffled(files: list[Path], chance: random.Random) -> list[Path]:
    chance.shuffle(files)
    return files
