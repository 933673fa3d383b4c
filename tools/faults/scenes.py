"""What happens to sweeps: each scene injects faults into one, yielding the kind of each; the campaign then ends it.

A scene raises `Lost` for what must not be, whatever comes after. `count`: how many faults at most.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.faults import damage
from tools.faults.moments import PHASES, reached
from tools.faults.sweep import LIMIT, Launch, Lost, Sweep, durations, mounted

FAKETIME = "*/faketime/libfaketimeMT.so.1"


def kill_launch(sweep: Sweep, count: int) -> Iterator[str]:
    """The launch is killed or told to stop, again and again, each time in a phase drawn by chance."""
    for _ in range(count):
        launch, phase = sweep.start(), sweep.chance.choice(PHASES)
        number = sweep.chance.choice((signal.SIGKILL, signal.SIGTERM))
        if not reached(sweep, launch, phase, sweep.chance):
            if (code := launch.end()) != 0:
                raise Lost(f"a launch that nobody touched ended with {code}: {last(launch)}")
            return
        launch.process.send_signal(number)
        yield f"{number.name} of the launch, {phase}"
        code = launch.end()
        if number == signal.SIGTERM and code not in (0, 3, -signal.SIGTERM):
            raise Lost(f"SIGTERM in phase {phase} ended with {code}: {last(launch)}")


def kill_workers(sweep: Sweep, count: int) -> Iterator[str]:
    """Workers are killed or told to stop while the launch goes on."""
    sweep.more = ("--retries", "100")
    launch = sweep.start()
    for _ in range(count):
        time.sleep(sweep.chance.uniform(0.3, 3.0))
        while launch.alive and not (workers := launch.workers()):
            time.sleep(0.05)
        if not launch.alive:
            break
        number = sweep.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        with contextlib.suppress(ProcessLookupError):
            os.kill(sweep.chance.choice(workers), number)
            yield f"{number.name} of a worker"
    if (code := launch.end()) != 0:
        raise Lost(f"the launch ended with {code}: {last(launch)}")


def hang_workers(sweep: Sweep, count: int) -> Iterator[str]:
    """Workers stop and do not come back; the launch ends them after its timeout."""
    sweep.more = ("--retries", "100", "--stall-timeout", "30")
    launch = sweep.start()
    if reached(sweep, launch, "training", sweep.chance):
        for pid in launch.workers()[:count]:
            os.kill(pid, signal.SIGSTOP)
            yield "SIGSTOP of a worker"
    if (code := launch.end()) != 0:
        raise Lost(f"the launch ended with {code}: {last(launch)}")


def two_launches(sweep: Sweep, count: int) -> Iterator[str]:
    """The same command twice at once; a second time one of the two is killed."""
    for killed in range(count):
        both = [sweep.start()]
        time.sleep(sweep.chance.uniform(0, 2.0))
        both.append(sweep.start())
        yield "two launches at once, one killed" if killed else "two launches at once"
        if killed and reached(sweep, both[1], "training", sweep.chance):
            both[1].process.kill()
            both[1].end()
        codes = [launch.end() for launch in (both[:1] if killed else both)]
        if any(codes):
            raise Lost(f"launches at once ended with {codes}: {' | '.join(map(last, both))}")
        trained = [line.split()[1] for launch in both for line in launch.said.splitlines() if "  finished  " in line]
        if len(trained) != len(set(trained)):
            raise Lost(f"a run was trained twice: {trained}")
        if killed + 1 < count:
            shutil.rmtree(sweep.work)


def damage_finished(sweep: Sweep, count: int) -> Iterator[str]:
    """Records of a finished sweep are cut or one of their bits flips: a report of them is refused, or is the same."""
    before = (sweep.work / "results.csv").read_bytes()
    files = damage.records(sweep.work, sweep.chance)[:count]
    for file in files:
        yield f"{damage.apply(file, sweep.chance)} of a {damage.kind(file)}, finished"
    check_report(sweep, before)


def check_report(sweep: Sweep, before: bytes) -> None:
    """A report names a damaged record in one line, or says what it said."""
    launch = sweep.start("report")
    code = launch.end()
    if code == 0 and (sweep.work / "results.csv").read_bytes() != before:
        raise Lost("a report shows other results and says nothing")
    if code != 0 and (code != 2 or "is damaged" not in last(launch)):
        raise Lost(f"a report of damaged records ended with {code}: {last(launch)}")


def damage_unfinished(sweep: Sweep, count: int) -> Iterator[str]:
    """The same in a sweep that was killed."""
    for file in damage.records(sweep.work, sweep.chance)[:count]:
        yield f"{damage.apply(file, sweep.chance)} of a {damage.kind(file)}, unfinished"


def damage_checkpoints(sweep: Sweep, count: int) -> Iterator[str]:
    """Files of checkpoints of a sweep that was killed."""
    for file in damage.checkpoints(sweep.work, sweep.chance)[:count]:
        yield f"{damage.apply(file, sweep.chance)} of a checkpoint, unfinished"


def damage_lease(sweep: Sweep, count: int) -> Iterator[str]:
    """A lease that a killed launch has left."""
    for file in damage.leases(sweep.work, sweep.chance)[:count]:
        yield f"{damage.apply(file, sweep.chance)} of a lease, unfinished"


def damage_kept(sweep: Sweep, count: int) -> Iterator[str]:
    """A checkpoint of a finished run: `eval` refuses it, or finds what the run's records say."""
    from research.training import record

    for file in damage.checkpoints(sweep.work, sweep.chance)[:count]:
        run = next(place for place in file.parents if place.parent.name == "runs")
        step = next(place.name for place in file.parents if place.parent.name == "checkpoints")
        yield f"{damage.apply(file, sweep.chance)} of a checkpoint, finished"
        launch = sweep.start("eval", "eval", "--workdir", str(run.resolve()), "--checkpoint", step)
        if (code := launch.end()) == 2:
            continue
        if code != 0:
            raise Lost(f"eval of a damaged checkpoint ended with {code}: {last(launch)}")
        found = next(run.glob("eval-*.json"))
        recorded = [row for row in record.read_run(run).metrics if row["step"] == int(step) and "eval/loss" in row]
        values = record.read_json(found)
        if any(abs(values["loss"] - row["eval/loss"]) > 1e-4 * abs(row["eval/loss"]) for row in recorded):
            raise Lost(f"eval of a damaged checkpoint: loss {values['loss']} instead of {recorded[0]['eval/loss']}")
        found.unlink()


def full_disk(sweep: Sweep, count: int) -> Iterator[str]:
    """The disk fills up at a random moment, and has room again for the next launch."""
    for _ in range(count):
        launch, phase = sweep.start(), sweep.chance.choice(PHASES[:5])
        if not reached(sweep, launch, phase, sweep.chance):
            launch.end()
            return
        filler = sweep.folder / "work" / "filler"
        filler.parent.mkdir(exist_ok=True)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            yield f"full disk, {phase}"
            while file.write(bytes(1 << 16)):
                pass
        launch.end()
        filler.unlink()


@contextlib.contextmanager
def small_disk(sweep: Sweep) -> Iterator[None]:
    """The workdir lies on a disk of 48 MB."""
    sweep.work.mkdir()
    with mounted(sweep.work, "-t", "tmpfs", "-o", "size=48m", "tmpfs"):
        yield


def read_only(sweep: Sweep, count: int) -> Iterator[str]:
    """The folder can only be read from a random moment on, until the launch has ended."""
    for _ in range(count):
        sweep.work.mkdir(exist_ok=True)
        launch, phase = sweep.start(), sweep.chance.choice(PHASES[:5])
        if not reached(sweep, launch, phase, sweep.chance):
            launch.end()
            return
        with mounted(sweep.work, "--bind", str(sweep.work)):
            only_read(sweep.work)
            yield f"read-only folder, {phase}"
            launch.end()


def only_read(place: Path) -> None:
    """Let nobody open a file below a new mount to write."""
    for _ in range(100):  # who has just done so keeps it busy
        words = ["mount", "-o", "remount,ro,bind", str(place)]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.01)
    raise RuntimeError(f"cannot remount {place}")


# libfaketime refuses every sleep of Python's (EINVAL, or hours), which is until a time of the clock that never jumps.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"


def jump_clock(sweep: Sweep, count: int) -> Iterator[str]:
    """The system's time jumps by hours, forwards and backwards, while the launch goes on."""
    library, file = next(Path("/usr/lib").glob(FAKETIME)), sweep.folder / "clock"
    file.write_text("+0")
    (sweep.folder / "sitecustomize.py").write_text(SLEEP)
    sweep.preload = {
        "PYTHONPATH": str(sweep.folder),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    began, launch = time.monotonic(), sweep.start()
    for _ in range(count):
        if not reached(sweep, launch, "importing", sweep.chance):
            break
        hours = sweep.chance.choice((-30, -8, -1, 1, 7, 26))
        file.write_text(f"{hours:+d}h")
        yield f"clock {'back' if hours < 0 else 'forward'} by hours"
    code = launch.end(4 * LIMIT)  # each look at the clock goes by way of memory that all processes share
    sweep.preload = {}
    if code != 0:
        raise Lost(f"the launch ended with {code}: {last(launch)}")
    durations(sweep.work, time.monotonic() - began)


def malformed_config(sweep: Sweep, count: int) -> Iterator[str]:
    """The config file is spoilt between two launches: refused in one line, and nothing is touched."""
    file = sweep.folder / "config.json"
    sound = file.read_text()
    for _ in range(count):
        wrong = sweep.chance.choice(
            (
                sound[: len(sound) // 2],
                sound.replace('"batch_size": 32', '"batch_size": "many"'),
                sound.replace('"batch_size": 32', '"batch_size": -1'),
                sound.replace('"batch_size"', '"bacth_size"'),
                sound.replace('"120 steps"', '"120 stops"'),
                "[]",
                "",
            )
        )
        file.write_text(wrong)
        launch = sweep.start()
        yield "malformed config"
        if (code := launch.end()) != 2 or len(launch.said.strip().splitlines()) != 1:
            raise Lost(f"a malformed config ended with {code}: {launch.said.strip()[-300:]}")
        file.write_text(sound)


def malformed_image(sweep: Sweep, count: int) -> Iterator[str]:
    """An image is cut or spoilt before a launch or in its course, and is sound again for the next."""
    for _ in range(count):
        file = sweep.chance.choice(sorted((sweep.folder / "images").rglob("*.png")))
        sound, times = file.read_bytes(), file.stat()
        launch = sweep.start() if sweep.chance.random() < 0.5 else None
        if launch is not None and not reached(sweep, launch, "training", sweep.chance):
            launch.end()
            return
        file.write_bytes(sweep.chance.choice((b"", b"no image", sound[: len(sound) // 2], bytes(len(sound)))))
        yield f"malformed image, {'before a launch' if launch is None else 'in its course'}"
        launch = launch or sweep.start()
        if (code := launch.end()) != 0 and file.name not in launch.said:
            raise Lost(f"a malformed image ended with {code} and is not named: {last(launch)}")
        file.write_bytes(sound)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def last(launch: Launch) -> str:
    """The last line of what a launch said."""
    return (launch.said.strip().splitlines() or ["without a word"])[-1]


@dataclass(frozen=True)
class Scene:
    """A scene: its faults at most, the shapes it comes in, where its sweep begins, and what it needs."""

    play: Callable[[Sweep, int], Iterator[str]]
    count: int
    shapes: tuple[str, ...] = ("threads", "workers", "population")
    begins: str = "new"  # or a copy of a `finished` or `killed` one
    place: Callable[[Sweep], contextlib.AbstractContextManager[None]] = lambda sweep: contextlib.nullcontext()
    needs: str = ""


SCENES = (
    Scene(kill_launch, 6),
    Scene(damage_finished, 7, begins="finished"),
    Scene(kill_workers, 12, ("workers",)),
    Scene(damage_checkpoints, 6, begins="killed"),
    Scene(jump_clock, 6, needs="faketime"),
    Scene(damage_unfinished, 6, begins="killed"),
    Scene(full_disk, 3, place=small_disk, needs="root"),
    Scene(malformed_config, 3, ("threads",)),
    Scene(kill_workers, 12, ("workers",)),
    Scene(damage_finished, 7, begins="finished"),
    Scene(damage_checkpoints, 6, begins="killed"),
    Scene(hang_workers, 2, ("workers",)),
    Scene(read_only, 2, needs="root"),
    Scene(two_launches, 2),
    Scene(malformed_image, 3, ("images",)),
    Scene(damage_kept, 2, begins="finished"),
    Scene(damage_lease, 1, begins="killed"),
)
