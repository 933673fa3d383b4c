"""One run by several processes that Ray starts, on as many of its nodes as it can: `launch.py train --ray-address`.

Each is an actor, so a process of its own; they meet at the first one's node. Where one dies, or its node does, all are
started again and go on from the last checkpoint. On Slurm and TPU slices the launcher starts the processes itself.
"""

import contextlib
import importlib.util
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from research import backend
from research.config import Config, from_json, to_json
from research.errors import Preempted, RunFailed, UserError
from research.sweeps.executors import ray as of_ray
from research.training import preemption, trackers

PLACING = 60.0  # seconds in which the cluster may come to have room
GRACE = 60.0  # seconds in which the others may end by themselves where one has failed
_log = logging.getLogger(__name__)
_KINDS: dict[str, type[Exception]] = {"user": UserError, "failed": RunFailed, "preempted": Preempted}


class Process:
    """What Ray runs: one of the processes."""

    def __init__(self, folder: str) -> None:
        self._asked = threading.Event()
        with contextlib.suppress(OSError):  # of a node that does not have it: only paths of users' files need it
            os.chdir(folder)

    def address(self) -> str:
        """HOST:PORT at which the others can meet this one."""
        ray = of_ray.library()
        host = ray.util.get_node_ip_address()
        with socket.socket() as found:
            found.bind((host, 0))
            return f"{host}:{found.getsockname()[1]}"

    def train(self, config: str, workdir: str, track: tuple[str, ...], meeting: tuple[str, int, int]) -> dict[str, Any]:
        """The summary as `summary`, or the kind of an error and its words; `meeting`: see `processes.connect`."""
        backend.set_up()
        from research.training import loop, processes, tracking

        told = tracking.Tracking(track)
        try:
            processes.connect(*meeting)
            found = loop.train(from_json(config), workdir, display=False, asked=self._asked, tracking=told)
            return {"summary": found}
        except tuple(_KINDS.values()) as error:
            kind = next(name for name, kind in _KINDS.items() if isinstance(error, kind))
            return {"kind": kind, "words": str(error)}
        finally:
            tracking.drain()

    def stop(self) -> None:
        """Let the run save its state and end."""
        self._asked.set()


def train(
    cfg: Config,
    workdir: epath.PathLike,
    *,
    processes: int,
    address: str | None = None,
    cpus: int | None = None,
    chips: int | None = None,
    retries: int = 2,
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Train `cfg` in `workdir`, which every node sees, by so many processes with these cores and chips each.

    `address`: of a cluster, None for one on this machine alone. Returns the summary. Raises `UserError`, also where
    the cluster has not the room; `RunFailed` where a process died more than `retries` times; `Preempted`.
    """
    trackers.check(track)
    if importlib.util.find_spec("ray") is None:
        raise UserError("--ray-address needs Ray; install the extra `ray`")
    ray = of_ray.library()
    of_ray.connect(address)
    try:
        with preemption.asked_to_stop() as asked:
            for left in range(retries, -1, -1):
                with _placed(processes, cpus, chips) as actors:
                    found = _attempt(actors, cfg, str(workdir), tuple(track), asked)
                if found is not None:
                    return found
                if asked.is_set():
                    raise Preempted("preempted while a process was gone; the same command continues")
                if left:
                    _log.warning("a process of the run died; all %s start again (%s more times)", processes, left)
        raise RunFailed(f"processes of the run died {retries + 1} times; the same command continues")
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _placed(count: int, cpus: int | None, chips: int | None) -> Iterator[list[Any]]:
    """So many actors, spread over the nodes."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray = of_ray.library()
    each = {"CPU": float(cpus or 1)} | of_ray.accelerators(chips)
    group = ray.util.placement_group([each] * count, strategy="SPREAD")
    try:
        if not group.wait(PLACING):
            total = {name: ray.cluster_resources().get(name, 0) for name in each}
            raise UserError(f"the Ray cluster has {total} in all; {count} processes need {each} each")
        make = ray.remote(max_concurrency=2, max_restarts=0, **of_ray.options(cpus, chips))(Process)
        actors = [
            make.options(
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
            ).remote(os.getcwd())
            for index in range(count)
        ]
        try:
            yield actors
        finally:
            for actor in actors:
                ray.kill(actor)
    finally:
        ray.util.remove_placement_group(group)


def _attempt(
    actors: list[Any], cfg: Config, workdir: str, track: tuple[str, ...], asked: threading.Event
) -> dict[str, Any] | None:
    """The summary of the run; None where a process died. Raises what all of them said."""
    ray = of_ray.library()
    path = workdir if "://" in workdir else str(Path(workdir).resolve())
    try:
        coordinator = ray.get(actors[0].address.remote())
        waiting = [
            actor.train.remote(to_json(cfg), path, track, (coordinator, number, len(actors)))
            for number, actor in enumerate(actors)
        ]
        first, stopping, deadline = waiting[0], False, float("inf")
        said: dict[Any, dict[str, Any]] = {}
        while waiting and time.monotonic() < deadline:
            ready, waiting = ray.wait(waiting, timeout=0.5)
            said |= {reference: ray.get(reference) for reference in ready}
            if any("kind" in words for words in said.values()):
                deadline = min(deadline, time.monotonic() + GRACE)
            if asked.is_set() and not stopping:
                stopping = True
                for actor in actors:
                    actor.stop.remote()
    except ray.exceptions.RayError:
        return None
    for words in said.values():
        if "kind" in words and words["kind"] != "failed":
            raise _KINDS[words["kind"]](words["words"])
    for words in said.values():
        if "kind" in words:
            raise RunFailed(words["words"])
    summary: dict[str, Any] = said[first]["summary"]
    return summary
