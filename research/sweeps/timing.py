"""The quiet phase of a study: the training step of each of its networks, timed alone, each in a process of its own.

Runs share the machine with each other, and runs of a population share a step: what a step takes is measured when they
are done. `timings.json` of the workdir has, for each run by its id, the row of `launch.py bench` of its network.
"""

import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from etils import epath

from research import catalogue
from research.config import from_dict
from research.errors import RunFailed, UserError
from research.sweeps import results, store
from research.sweeps.predict import known_data
from research.sweeps.results import Result


def networks(found: Iterable[Result]) -> list[list[Result]]:
    """Finished runs by what their step computes: network, batch, image and precision."""
    alike: dict[tuple[str, ...], list[Result]] = {}
    for result in found:
        if result.status == "finished":
            alike.setdefault(tuple(_words(result)), []).append(result)
    return list(alike.values())


def measure(
    workdir: epath.PathLike, bench: Sequence[str], *, repeats: int = 10, say: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """Time every network of a workdir's finished runs that has not been; returns the new rows by a run's id.

    `bench`: the words that begin `launch.py bench` in a new process. Each row is written as soon as it is measured, for
    all runs of its network. Raises `UserError` where there is no finished run, `RunFailed` where one cannot be timed.
    """
    known = store.read_timings(workdir)
    groups = networks(result for study in results.read(workdir) for result in study.results)
    if not groups:
        raise UserError(f"{workdir} has no finished run; expected a study's or sweep's, to time their networks")
    models = {from_dict(group[0].config).model.name for group in groups}
    catalogue.refuse_inside(workdir, models, f"{workdir}/runs/*/config.json")
    made = {}
    for number, group in enumerate(groups, 1):
        row = next((known[r.id] for r in group if r.id in known), None)
        if row is None:
            row = made[group[0].id] = _timed(group[0], bench, repeats)
            say(f"[{number}/{len(groups)}] {group[0].label}  {1e3 * row['step_seconds']:.3g} ms a step")
        store.write_timings(workdir, {r.id: row for r in group})
    say(f"{len(made)} networks timed, {len(groups) - len(made)} were already")
    return made


def _timed(result: Result, bench: Sequence[str], repeats: int) -> dict[str, Any]:
    words = [*bench, *_words(result), "--train", "--json", "--repeats", str(repeats)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"timing {result.label}: {(done.stderr.strip() or 'it ended without a word').splitlines()[-1]}")
    (row,) = json.loads(done.stdout)
    return row


def _words(result: Result) -> list[str]:
    """What `launch.py bench` is told of a run's network."""
    config = from_dict(result.config)
    data = known_data(config)
    given = [config.model.name, "--batch-size", config.data.batch_size, "--resolution", data.shape[0]]
    given += ["--channels", data.shape[-1], "--num-classes", config.model.num_classes or data.num_classes]
    given += ["--compute", config.precision.compute]
    for key, value in config.model.options.items():
        several = value if isinstance(value, tuple) else (value,)
        given += [f"--{key.replace('_', '-')}", *(json.dumps(v) if isinstance(v, bool) else v for v in several)]
    return [str(word) for word in given]
