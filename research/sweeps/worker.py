"""A worker process of `executors/local.py`: tasks come in as lines of JSON, and what became of them goes out so.

It ends when it is told to, and when whoever started it is gone; what it is training is then saved.
"""

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

from research import backend
from research.errors import Preempted, UserError
from research.sweeps import jobs, work


def perform(task: dict[str, Any]) -> dict[str, Any]:
    """Train what `jobs.encode` made values of; what became of it as JSON values.

    `outcomes`: [id, status, reason] of each job that ended; `preempted`: why the others did not, or "".
    """
    wanted = jobs.decode(task)
    found: list[list[str]] = []
    try:
        for outcome in work.here(wanted, threads=1):
            found.append([outcome.job.id, outcome.status, outcome.reason])
    except Preempted as stopped:
        return {"outcomes": found, "preempted": str(stopped)}
    except UserError as error:  # what this machine, or the data on it, cannot do
        done = {id_ for id_, _, _ in found}
        found += [[job.id, "failed", work.failed(job, str(error))] for job in wanted if job.id not in done]
    return {"outcomes": found, "preempted": ""}


def main() -> int:
    """Perform one task after the other until there are no more."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to the log
    tasks: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    backend.set_up()
    while (line := tasks.get()) is not None:
        done = perform(json.loads(line))
        replies.write(json.dumps(done) + "\n")
        replies.flush()
        if done["preempted"]:
            return 3
    return 0


def _listen(tasks: "queue.SimpleQueue[str | None]") -> None:
    for line in sys.stdin:
        tasks.put(line)
    tasks.put(None)
    os.kill(os.getpid(), signal.SIGTERM)  # whoever started this is gone: what is being trained is saved


if __name__ == "__main__":
    sys.exit(main())
