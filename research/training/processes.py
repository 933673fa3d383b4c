"""The processes that train one run together, on one host or on many: how they meet, and what they tell one another.

Each runs the same program on its own devices and its own share of every batch; what they agree on here is as in any
collective operation: each must ask, in the same order. Where a process dies, the others end too: their collectives
fail, or they hear from the coordinator, which misses its heartbeat.
"""

import json
import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from research.errors import RunFailed, UserError

T = TypeVar("T")
HEARTBEAT = 30  # seconds without a sign of life, after which a process is taken for dead
MEETING = 300  # seconds that the first to come waits for the others
SHUTDOWN = 15  # seconds that a process waits at its end for the others to come to theirs

# What launchers of several processes say of how many there are; `SLURM_STEP_NUM_TASKS` is set by srun, not in a script.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def are_launched_together() -> bool:
    """Whether this process was started as one of several: by srun, by Open MPI, or on the hosts of a TPU slice."""
    several = any(os.environ.get(name, "").isdigit() and int(os.environ[name]) > 1 for name in _COUNTS)
    return several or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def connect(coordinator: str | None, process_id: int | None, num_processes: int | None) -> None:
    """Meet the other processes, before anything is computed; does nothing for a process that is alone.

    `coordinator`: HOST:PORT of process 0, which listens there and nowhere else; "auto", or nothing at all where
    `are_launched_together`: as the launcher says (Slurm, Open MPI, a TPU slice, Kubernetes). Raises `UserError` where
    the three contradict one another, `RunFailed` where the others do not come.
    """
    given = {"--coordinator": coordinator, "--process-id": process_id, "--num-processes": num_processes}
    detected = coordinator == "auto" or (set(given.values()) == {None} and are_launched_together())
    if not detected:
        if set(given.values()) == {None}:
            return
        _check(given, coordinator, process_id, num_processes)
        if num_processes == 1:
            return
    elif process_id is not None or num_processes is not None:
        raise UserError("--coordinator auto goes without --process-id and --num-processes: the launcher says them")
    address = None if detected else coordinator
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS") or address
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which `preemption` answers
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            coordinator_bind_address=bind,
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except ValueError as error:
        raise UserError(f"no launcher that JAX knows says who trains together ({error}); give --coordinator") from error
    except RuntimeError as error:
        line = " ".join(str(error).split())[:200]
        raise RunFailed(f"the processes did not meet at {coordinator or 'the coordinator'}: {line}") from error


def _check(given: dict[str, Any], coordinator: str | None, process_id: int | None, num_processes: int | None) -> None:
    if missing := [flag for flag, value in given.items() if value is None]:
        raise UserError(f"{' and '.join(missing)} missing; --coordinator, --process-id, --num-processes go together")
    assert coordinator is not None
    assert process_id is not None
    assert num_processes is not None
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0, or auto")
    if num_processes < 1:
        raise UserError(f"--num-processes is {num_processes}; expected at least 1")
    if not 0 <= process_id < num_processes:
        raise UserError(f"--process-id is {process_id}; expected 0 to {num_processes - 1}")


def count() -> int:
    """How many processes train together."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the one that writes records and speaks to the user."""
    return count() == 1 or jax.process_index() == 0


def _all(text: str) -> list[str]:
    """What each process says, by its number."""
    words = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(words)))
    longest = 1 << int(sizes.max()).bit_length()  # few programs for many lengths
    padded = np.pad(words, (0, longest - len(words)))
    found = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(found, sizes, strict=True)]


def everywhere(make: Callable[[], T]) -> T:
    """What `make` gives here, once it gave something everywhere; where it raises for one process, all of them raise.

    The others raise the error of the first that did, naming it: a `UserError` where it was one, else `RunFailed`.
    """
    if count() == 1:
        return make()
    error, value = None, None
    try:
        value = make()
    except Exception as raised:  # told to the others, and raised again below
        error = raised
    said = _all("" if error is None else json.dumps([isinstance(error, UserError), str(error)]))
    if error is not None:
        raise error
    for number, text in enumerate(said):
        if text:
            is_users, message = json.loads(text)
            raise (UserError if is_users else RunFailed)(f"process {number}: {message}")
    return value  # type: ignore[return-value]


def from_first(make: Callable[[], T]) -> T:
    """What `make`, called in the first process alone, gives there, for all: JSON values. Raises as `everywhere`."""
    if count() == 1:
        return make()
    value = everywhere(lambda: make() if is_first() else None)
    return of_each(value)[0]  # type: ignore[no-any-return]


def of_each(value: Any) -> list[Any]:
    """What each process gives, JSON values, by its number."""
    return [value] if count() == 1 else [json.loads(text) for text in _all(json.dumps(value))]


def whole(x: Any) -> np.ndarray:
    """An array on the host, also where each process has a part of it; waits for the devices."""
    if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(jax.device_get(x))
