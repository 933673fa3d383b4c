"""Weights & Biases: a run there for each run here, with its id, which goes on where ours does.

Where it goes is said by its own settings (`WANDB_MODE`, `WANDB_PROJECT`, `WANDB_BASE_URL`, ...). What it may not do:
listen to what this process prints, copy code, look at git.
"""

import os
import tempfile
from collections.abc import Mapping

from research import storage
from research.errors import UserError
from research.training.trackers import Run, Status, Tracker

LIBRARY, EXTRA = "wandb", "wandb"
PROJECT = "convscale"  # where WANDB_PROJECT does not say
PATIENCE = 30.0  # seconds that a run may take to begin, and to end; `wandb sync` sends the rest from its folder


def check() -> None:
    """Raise `UserError` where it would have to ask who we are."""
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled") or wandb.login(prompt=False, verify=False):
        return
    raise UserError(
        "the tracker wandb knows no API key; expected `wandb login` before, WANDB_API_KEY or WANDB_MODE=offline"
    )


def begin(run: Run) -> Tracker:
    """Begin the run with this id, in place of one that is there, or go on with it after `run.start`."""
    return _Followed(run)


class _Followed:
    def __init__(self, run: Run) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._run = wandb.init(
            id=run.id,
            name=run.name,
            group=run.group or None,
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            config=dict(run.config),
            dir=tempfile.gettempdir() if storage.is_remote(run.folder) else str(run.folder),
            resume="allow" if run.start else None,
            reinit="create_new",  # runs that train at a time have one each
            settings=wandb.Settings(
                console="off",
                silent=True,
                save_code=False,
                disable_git=True,
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
                finish_timeout_raises=True,
            ),
        )
        self._first = self._run.step  # it takes no record of before: what it has of those is the same, to the bit

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        if step >= self._first:
            self._run.log(dict(numbers), step=step)

    def end(self, status: Status, summary: Mapping[str, float | str]) -> None:
        if status == "preempted":
            self._run.mark_preempting()
        self._run.summary.update(dict(summary))
        self._run.finish(exit_code=0 if status == "finished" else 1)
