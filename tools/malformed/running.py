"""How a case is run, and what is wrong with how it ended."""

import importlib
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from tools.malformed.case import Case, Place, digest, names

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds, on a busy machine
MOST = 2 << 30  # bytes of memory beyond those of a process that has imported everything
LONGEST = 1200  # characters of a line that a person reads
# What every verb imports. Not polars: it starts threads, which a fork does not have.
WARM = (
    *(
        "launch",
        "jax",
        "flax.linen",
        "optax",
        "orbax.checkpoint",
        "tensorflow_datasets",
        "safetensors.numpy",
        "PIL.Image",
    ),
    *("research.overrides", "research.data.__main__", "research.training.loop", "research.training.trained"),
    *("research.training.evaluation", "research.training.export", "research.analysis.explain", "research.sweeps.study"),
    *("research.analysis.plan", "research.analysis.bench", "research.pretrained", "research.sweeps.grouping"),
)


@dataclass(frozen=True)
class Ended:
    """How a case ended: exit code (negative: the signal; None: it had to be stopped), what it wrote, what changed."""

    code: int | None
    out: str
    err: str
    changed: tuple[str, ...]
    seconds: float
    memory: int  # bytes, beyond what is imported


def warm() -> None:
    """Import what the verbs need; nothing of it may start a backend of JAX's, or forks would hang."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    sys.dont_write_bytecode = True  # of users' files: what a case leaves is ours alone
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for name in WARM:
        importlib.import_module(name)
    from jax._src import xla_bridge

    assert not xla_bridge.backends_are_initialized()


def sweep(folder: Path) -> Path:
    """A sweep of one run that is trained for a moment, with its report: what damaged folders are made from."""
    words = ["sweep", "digits:resnet8", "--grid", "seed=0", "--model.width", "4", "--data.train-examples", "200"]
    words += ["--data.batch-size", "32", "--budget.train", "4 steps", "--budget.eval-every", "2 steps"]
    words += ["--schedule.warmup", "1", "--parallelism.devices", "1", "--checkpointing.every", "2 steps"]
    folder.mkdir()
    made = Case((*words, "--budget.log-every", "1 steps", "--workdir", "sweep"), "")
    ended = run(made, Place(folder, folder), own_process=False)
    assert ended.code == 0, ended.err
    return folder / "sweep"


def run(case: Case, place: Place, *, own_process: bool) -> Ended:
    """Type the words of a case in its folder, in a fork or as a program of its own."""
    before, listed = digest(place.folder), names(place.folder)
    if case.read_only is not None:
        _mount(case.read_only)
    try:
        began = time.monotonic()
        code, out, err, memory = (_program if own_process else _fork)(case, place.folder)
        seconds = time.monotonic() - began
    finally:
        if case.read_only is not None:
            subprocess.run(["umount", "--lazy", str(case.read_only)], check=True)
    changed: tuple[str, ...] = ()
    if digest(place.folder) != before:
        changed = tuple(sorted(names(place.folder) ^ listed)) or ("contents of a file",)
    return Ended(code, out, err, changed, seconds, memory)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount: root, outside of a container that forbids it."""
    if shutil.which("mount") is None:
        return False
    mounted = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True, check=False)
    if mounted.returncode == 0:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    return mounted.returncode == 0


def _mount(folder: Path) -> None:
    """As root no permission keeps anybody from writing; a mount does."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)


def _fork(case: Case, folder: Path) -> tuple[int | None, str, str, int]:
    pipes = [os.pipe(), os.pipe()]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for number, (_, writing) in enumerate(pipes, 1):
            os.dup2(writing, number)
        for pipe in pipes:
            os.close(pipe[0]), os.close(pipe[1])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os._exit(_child(case, folder))
    for _, writing in pipes:
        os.close(writing)
    return _ended(pid, [reading for reading, _ in pipes], held)


def _child(case: Case, folder: Path) -> int:
    """What the fork does: as `python launch.py` would, its exit code included."""
    try:
        os.chdir(folder)
        if case.program == "research.data":
            from research.data.__main__ import main

            code: int = main(list(case.words))
        else:
            import launch

            code = launch.program(list(case.words))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _ended(pid: int, readings: list[int], held: int) -> tuple[int | None, str, str, int]:
    """Read what a process writes until it ends or its time is over."""
    said: dict[int, bytes] = dict.fromkeys(readings, b"")
    left, deadline, late = set(readings), time.monotonic() + LIMIT, False
    while left:
        ready, _, _ = select.select(list(left), [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.killpg(pid, signal.SIGKILL)
            late = True
            break
        for reading in ready:
            if data := os.read(reading, 1 << 16):
                said[reading] += data
            else:
                left.discard(reading)
    _, status, used = os.wait4(pid, 0)
    for reading in readings:
        os.close(reading)
    out, err = (said[reading].decode(errors="replace") for reading in readings)
    code = None if late else os.waitstatus_to_exitcode(status)
    return code, out, err, max(0, used.ru_maxrss - held) * 1024


def _program(case: Case, folder: Path) -> tuple[int | None, str, str, int]:
    """`python launch.py` itself. Its memory is not looked at: what it imports is part of it."""
    program = [str(ROOT / "launch.py")] if case.program == "launch.py" else ["-m", case.program]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *program, *case.words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LIMIT)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    return code, out.decode(errors="replace"), err.decode(errors="replace"), 0


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


def fault(ended: Ended) -> str:
    """What is wrong with how a case ended; empty where it was refused as it should be."""
    line = ended.err.removesuffix("\n")
    if ended.code is None:
        return f"it had not ended after {LIMIT:.0f} s"
    if ended.code not in (1, 2):
        return f"exit code {ended.code}"
    if "Traceback" in ended.err:
        return "a traceback"
    if "\n" in line or not line:
        return f"{line.count(chr(10)) + bool(line)} lines on standard error"
    if "(--debug shows more)" in line:
        return "an error that nobody foresaw"
    if _CONTROL.search(line):
        return "control characters in the line"
    if len(line) > LONGEST:
        return f"a line of {len(line)} characters"
    if ended.out:
        return "something on standard output"
    if ended.changed:
        return f"it changed {', '.join(ended.changed)[:200]}"
    if ended.memory > MOST:
        return f"it took {ended.memory / 2**30:.1f} GiB"
    return ""


def shown(case: Case, ended: Ended) -> str:
    """A case and its end in one line."""
    words = " ".join(word if len(word) < 60 else f"{word[:40]}[{len(word)}]" for word in case.words)
    said = " ".join(ended.err.split()[-60:])[-300:]
    text = f"{case.kind} ({case.why}): {case.program} {words!r}: {ended.code}, {ended.seconds:.1f} s, {said!r}"
    return text.encode("ascii", "backslashreplace").decode()


def remove(folder: Path) -> None:
    """Remove a folder with whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)
