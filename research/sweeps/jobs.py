"""What is to be trained, where, and what became of it: values that go to other processes and machines, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

from etils import epath

from research import config as configs
from research.config import Config
from research.training.tracking import Tracking

# `elsewhere`: another process holds the run, or may hold it.
Status = Literal["finished", "failed", "elsewhere"]


@dataclass(frozen=True)
class Group:
    """Runs to be trained in one step: all that the study has put together, also those that are finished already."""

    folder: epath.Path
    runs: tuple[tuple[str, Config, epath.Path], ...]  # identity, config and folder of each


@dataclass(frozen=True)
class Job:
    """One run: train `config` into `folder`, with the others of its group where it has one.

    `token`: the number of the folder's last lease when the sweep began; what came after it is of now. `tracking`: who
    follows it.
    """

    label: str
    id: str
    config: Config
    folder: epath.Path
    group: Group | None = None
    token: int = 0
    tracking: Tracking = Tracking()


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `finished` with its summary, `failed` with the reason, or `elsewhere`."""

    job: Job
    status: Status
    summary: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Resources:
    """What a sweep may use. `workers`: processes, each with one run or group at a time; None: this process alone, which
    trains `threads` runs at a time (None: as measured fastest).

    `cpus`, `chips` (GPUs or TPU chips): of each worker; None: an equal share of the machine. A run whose worker died
    is tried again `retries` times; one without a step for `stall` seconds has hung, and its worker is ended. Of Slurm:
    its `partition`, and the `minutes` that it gives a run before that must go back into the queue. Of Ray: the
    `address` of the cluster; None: one for this sweep alone.
    """

    workers: int | None = None
    threads: int | None = None
    cpus: int | None = None
    chips: int | None = None
    retries: int = 2
    stall: float = 3600.0
    partition: str | None = None
    minutes: int = 24 * 60
    address: str | None = None


def together(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs as they train: those of a group as one, each other by itself; in the order of their first."""
    found: dict[Any, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.group.folder if job.group else job.id, []).append(job)
    return list(found.values())


def encode(jobs: Sequence[Job]) -> dict[str, Any]:
    """Jobs of one group, or one job, as JSON values."""
    group = jobs[0].group
    return {
        "jobs": [
            [job.label, job.id, configs.to_dict(job.config), str(job.folder), job.token, astuple(job.tracking)]
            for job in jobs
        ],
        "group": group
        and {
            "folder": str(group.folder),
            "runs": [[id_, configs.to_dict(config), str(folder)] for id_, config, folder in group.runs],
        },
    }


def decode(values: Mapping[str, Any]) -> list[Job]:
    """The jobs that `encode` made values of."""
    group = None
    if values["group"] is not None:
        runs = [(id_, configs.from_dict(config), epath.Path(folder)) for id_, config, folder in values["group"]["runs"]]
        group = Group(epath.Path(values["group"]["folder"]), tuple(runs))
    return [
        Job(label, id_, configs.from_dict(config), epath.Path(folder), group, token, Tracking(tuple(names), *called))
        for label, id_, config, folder, token, (names, *called) in values["jobs"]
    ]
