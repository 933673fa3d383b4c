"""The report while its runs train: built again as they end, on a page that loads itself again until the sweep is over.

Another process builds it, so that nothing it meets (a damaged record, an arm without runs) ends the sweep, and so that
training waits for it no longer than for any other program of the machine.
"""

import contextlib
import math
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from etils import epath

from research import backend, storage

if TYPE_CHECKING:
    from research.sweeps.results import StudyRecord

SHARE = 0.02  # of this process's cores that building reports may take
AT_LEAST = 10.0  # seconds before the first, and between two
RELOAD = 30.0  # seconds, at most, after which a page looks for the next
NICE = 10  # how much training goes before it
GRACE = 5.0  # seconds in which one may end that comes too late
BLOCK = re.compile("<!-- live -->.*?<!-- /live -->\n", re.DOTALL)  # what a page has only while it is live
STATES = ("waiting", "running", "finished", "failed")


def counts(studies: "Iterable[StudyRecord]") -> str:
    """`3 waiting, 1 running, 20 finished, 0 failed`, runs that several studies share counted once."""
    states = {result.id: result.status for study in studies for result in study.results}
    found = list(states.values())
    others = sorted(set(found) - set(STATES))
    return ", ".join(f"{found.count(state)} {state}" for state in (*STATES, *others))


def still(workdir: epath.PathLike) -> None:
    """Take from the page of a workdir what makes it load itself again."""
    page = epath.Path(workdir) / "report.html"
    if page.exists() and len(parts := BLOCK.split(page.read_text())) > 1:
        storage.write(page, "".join(parts))


class Live:
    """Context in which the report of `workdir` follows its runs: `changed` is to be called whenever one has ended.

    `command`: the words that build it; those for a page that is loaded again every so many seconds are added. `say`
    gets a line when there is one to look at, and when one cannot be built.
    """

    def __init__(self, workdir: epath.PathLike, command: Sequence[str], say: Callable[[str], None]) -> None:
        self._workdir, self._command, self._say = workdir, command, say
        self._wanted, self._over = threading.Event(), threading.Event()
        self._said: set[str] = set()
        self._thread = threading.Thread(target=self._follow, name="report", daemon=True)

    def changed(self) -> None:
        """There is something new to show."""
        self._wanted.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._wanted.set()
        self._thread.join()
        still(self._workdir)

    def _follow(self) -> None:
        pause = AT_LEAST
        while not self._over.wait(pause):
            self._wanted.wait()
            if self._over.is_set():
                return
            self._wanted.clear()
            pause = max(AT_LEAST, self._build(pause) / SHARE / _cores())

    def _build(self, pause: float) -> float:
        """Build the report; the seconds of one core that this took."""
        words = [*self._command, str(self._workdir), "--live", f"{min(pause, RELOAD):g}"]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**backend.environment(), "JAX_PLATFORMS": "cpu"},
                start_new_session=True,  # a control-C at the keyboard is not for it
            )
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            seconds = self._ended(process)
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
        if process.returncode == 0:
            self._once(f"the report follows: {epath.Path(self._workdir) / 'report.html'}")
        elif not self._over.is_set():
            last = said.splitlines()[-1] if said else f"it ended with {process.returncode}"
            self._once(f"the report cannot follow: {last}")
        return seconds

    def _ended(self, process: "subprocess.Popen[bytes]") -> float:
        """Wait for it, or end it where the sweep is over; the processor's seconds that it took."""
        deadline = math.inf
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return used.ru_utime + used.ru_stime
            if deadline < time.monotonic():
                process.kill()
            elif deadline == math.inf and self._over.is_set():
                process.terminate()
                deadline = time.monotonic() + GRACE
            time.sleep(0.05)

    def _once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._say(line)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
