"""Training: `train(cfg, workdir)` is what `launch.py train` calls; heavy libraries are imported when it is called."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from research.config import Config


def train(cfg: Config, workdir: epath.PathLike, *, display: bool = True, patient: bool = True) -> dict[str, Any]:
    """Train `cfg` in `workdir` from where the folder left off; returns the summary (`research.training.loop.train`)."""
    from research.training import loop

    return loop.train(cfg, workdir, display=display, patient=patient)


def evaluate(workdir: epath.PathLike, *, checkpoint: str = "best", dataset: str | None = None) -> Mapping[str, Any]:
    """Metrics of a checkpoint of a run folder (`research.training.evaluation.evaluate`)."""
    from research.training import evaluation

    return evaluation.evaluate(workdir, checkpoint=checkpoint, dataset=dataset)
