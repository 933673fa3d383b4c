"""Inject faults into short sweeps of real processes, and compare what they end with to one that nothing happened to.

    python -m tools.faults [--faults 200] [--seed 0]
    python -m tools.faults --seed 3 --scene 17      # that scene of that campaign alone

Every scene takes a sweep of six runs, injects some faults into it (`scenes`), does what error lines ask for, and runs
the same command to its end. It survives where every digest and every record, less what a clock wrote, is that of the
fault-free sweep, with no run lost or counted twice. Everything that chance decides follows from the seed and the number
of the scene, but for what processes do in their own time. Prints each kind with its count; exit code 0 if none is lost.
"""

import argparse
import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

from tools.faults.scenes import FAKETIME, SCENES, Scene
from tools.faults.sweep import SHAPES, Processes, Sweep, compare, outcome, write_config


class Campaign:
    """What all scenes share: sweeps that nothing happened to, others that were killed, and the counts."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch, self.seed = scratch, seed
        self.references: dict[str, Any] = {}
        self.boot: dict[str, float] = {}
        self.processes = Processes()
        self.injected, self.lost = Counter[str](), Counter[str]()
        self._lock, self._preparing = threading.Lock(), {shape: threading.Lock() for shape in SHAPES}

    def run(self, scenes: Iterator[tuple[int, Scene]], faults: int, at_once: int) -> None:
        """Play scenes, `at_once` at a time, until so many faults are injected."""
        with ThreadPoolExecutor(at_once) as pool:
            playing: dict[Future[int], int] = {}
            while True:
                left = 0 if self.processes.stopped else faults - self.injected.total() - sum(playing.values())
                if left > 0 and len(playing) < at_once:
                    number, scene = next(scenes)
                    playing[pool.submit(self.play, number, scene, left)] = min(left, scene.count)
                elif playing:
                    done, _ = wait(playing, return_when=FIRST_COMPLETED)
                    for future in done:
                        del playing[future]
                        future.result()
                else:
                    return

    def sweep(self, folder: Path, shape: str, chance: random.Random) -> Sweep:
        """A sweep in a new folder."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_config(folder, shape)
        environment = {"JAX_COMPILATION_CACHE_DIR": str(self.scratch / "cache"), "TMPDIR": str(self.scratch)}
        boot = self.boot.get(shape, 3.0)
        return Sweep(folder, shape, chance, self.processes, boot=boot, environment=environment)

    def prepare(self, shape: str) -> None:
        """The fault-free sweep of a shape, and one that was killed; once, and not where an earlier one left them."""
        with self._preparing[shape]:
            if shape in self.references:
                return
            whole, ready = self.scratch / f"{shape}-finished" / "work", self.scratch / f"{shape}.json"
            if not ready.exists():
                self._kill(shape)  # before, so that what it compiled is there for the other
                ready.write_text(json.dumps(self._whole(shape)))
            self.boot[shape] = json.loads(ready.read_text())
            self.references[shape] = outcome(whole)

    def _whole(self, shape: str) -> float:
        """The fault-free sweep; the seconds until its first run began."""
        sweep = self.sweep(self.scratch / f"{shape}-finished", shape, random.Random(0))
        began, launch = time.monotonic(), sweep.start()
        while launch.alive and not sweep.changed("runs/*/config.json", launch.began):
            time.sleep(0.02)
        boot = time.monotonic() - began
        if launch.end() != 0:
            raise RuntimeError(f"the fault-free sweep failed: {launch.said.strip()}")
        print(
            f"{shape}: the fault-free sweep took {time.monotonic() - began:.1f} s, began after {boot:.1f} s", flush=True
        )
        return boot

    def _kill(self, shape: str) -> None:
        """A sweep that was killed when some of its runs were finished, and others under way."""
        sweep = self.sweep(self.scratch / f"{shape}-killed", shape, random.Random(0))
        launch = sweep.start()
        while launch.alive and not enough(sweep):
            time.sleep(0.01)
        launch.kill()
        for file in sorted(sweep.work.glob("runs/*/summary.json"))[1:3]:
            file.unlink()  # as if these had been killed between their last save and their summary

    def play(self, number: int, scene: Scene, limit: int) -> int:
        """Play one scene to the end of its sweep; how many faults it injected."""
        chance = random.Random(f"{self.seed} {number}")
        shape = chance.choice(scene.shapes)
        name, folder = f"{scene.play.__name__} ({shape})", self.scratch / f"scene-{number}"
        injected: list[str] = []
        why, began = "", time.monotonic()
        try:
            self.prepare(shape)
            sweep = self.sweep(folder, shape, chance)
            if scene.begins != "new":
                shutil.copytree(self.scratch / f"{shape}-{scene.begins}" / "work", sweep.work, symlinks=True)
            with scene.place(sweep):
                with closing(scene.play(sweep, min(scene.count, limit))) as faults:
                    for kind in faults:
                        injected.append(kind)
                sweep.more = ()
                sweep.finish()
                compare(sweep.work, self.references[shape])
        except Exception as error:  # whatever it is: a result that cannot be shown to be the same is lost
            why = " ".join(f"{type(error).__name__}: {error}".split())
            injected = injected or [f"{name}, before any fault"]
        with self._lock:
            if self.processes.stopped:  # whatever this scene came to
                return 0
            self.injected.update(injected)
            if why:
                self.lost.update(injected)
                again = f"python -m tools.faults --seed {self.seed} --scene {number}"
                print(f"lost {len(injected)} in scene {number}, {name}: {why} [{', '.join(injected)}]; again: {again}")
            print(f"scene {number}: {name}, {len(injected)} faults, {time.monotonic() - began:.0f} s", flush=True)
        if not why:
            shutil.rmtree(folder, ignore_errors=True)
        return len(injected)


def enough(sweep: Sweep) -> bool:
    """Whether a sweep can be killed: runs that are finished, and others that have checkpoints."""
    ended = {file.parent for file in sweep.work.glob("runs/*/summary.json")}
    places = [*sweep.work.glob("runs/*/checkpoints"), *sweep.work.glob("groups/*/checkpoints")]
    going = [place for place in places if place.parent not in ended]
    return len(ended) >= 3 and any(len([s for s in place.iterdir() if s.name.isdigit()]) > 1 for place in going)


def missing() -> dict[str, str]:
    """What scenes need and this machine does not have: need -> why."""
    found = {}
    if not any(Path("/usr/lib").glob(FAKETIME)):
        found["faketime"] = "libfaketime is not installed (make install-system)"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            found["root"] = "mounting needs root"
        else:
            subprocess.run(["umount", folder], check=True)
    return found


def order(seed: int, left_out: Mapping[str, str]) -> Iterator[tuple[int, Scene]]:
    """Scenes with their numbers, without end: all of them in random order, again and again."""
    for lap in itertools.count():
        scenes = [scene for scene in SCENES if scene.needs not in left_out]
        random.Random(f"order {seed} {lap}").shuffle(scenes)
        yield from enumerate(scenes, lap * len(SCENES))


def main() -> int:
    """Run the campaign; 0 where every fault was survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=int, help="of a campaign with this seed, that one alone")
    parser.add_argument("--kind", help="only scenes whose function has this in its name")
    parser.add_argument("--at-once", type=int, default=2, help="scenes at a time")
    parser.add_argument("--keep", help="a folder to work in, which stays, with the sweeps that nothing happens to")
    words = parser.parse_args()
    left_out, began = missing(), time.monotonic()
    for need, why in left_out.items():
        names = sorted({scene.play.__name__ for scene in SCENES if scene.needs == need})
        print(f"left out: {', '.join(names)}: {why}")
    with contextlib.ExitStack() as open_:
        scratch = Path(words.keep or open_.enter_context(tempfile.TemporaryDirectory())).resolve()
        campaign = Campaign(scratch, words.seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: campaign.processes.stop())
        scenes = (pair for pair in order(words.seed, left_out) if (words.kind or "") in pair[1].play.__name__)
        if words.scene is not None:
            chosen = next(pair for pair in scenes if pair[0] == words.scene)
            campaign.play(*chosen, limit=chosen[1].count)
        else:
            campaign.run(scenes, words.faults, words.at_once)
    for kind, count in sorted(campaign.injected.items()):
        print(
            f"{kind:<55} injected {count:>3}  survived {count - campaign.lost[kind]:>3}  lost {campaign.lost[kind]:>3}"
        )
    injected, lost = campaign.injected.total(), campaign.lost.total()
    print(f"{time.monotonic() - began:.0f} s, seed {words.seed}")
    print(f"injected {injected} survived {injected - lost} lost {lost}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
