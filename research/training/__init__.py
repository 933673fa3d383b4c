"""Training: `train(cfg, workdir)` is what `launch.py train` calls; heavy libraries are imported when it is called."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from research.config import Config


def train(
    cfg: Config,
    workdir: epath.PathLike,
    *,
    display: bool = True,
    patient: bool = True,
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Train `cfg` in `workdir` from where the folder left off; returns the summary (`research.training.loop.train`).

    `track`: names of trackers that follow it besides (`research.training.trackers`), which are told all by the end.
    """
    from research.training import loop, trackers, tracking

    trackers.check(track)
    try:
        return loop.train(cfg, workdir, display=display, patient=patient, tracking=tracking.Tracking(tuple(track)))
    finally:
        tracking.drain()


def evaluate(workdir: epath.PathLike, *, checkpoint: str = "best", dataset: str | None = None) -> Mapping[str, Any]:
    """Metrics of a checkpoint of a run folder (`research.training.evaluation.evaluate`)."""
    from research.training import evaluation

    return evaluation.evaluate(workdir, checkpoint=checkpoint, dataset=dataset)
