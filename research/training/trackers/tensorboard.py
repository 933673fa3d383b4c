"""TensorBoard: files of events in the run's own folder."""

from collections.abc import Mapping

from research import storage
from research.training import events
from research.training.trackers import Run, Status, Tracker

FOLDER = "tensorboard"  # in the folder of a run
FLUSH = 60  # seconds between two times that events are written


def begin(run: Run) -> Tracker:
    """Write to a new file of events; TensorBoard then leaves out what earlier ones have beyond `run.start`."""
    return _Events(run)


class _Events:
    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        if storage.is_remote(run.folder):
            events.register()
        purge = {"purge_step": run.start + 1} if run.start else {}
        self._writer = SummaryWriter(str(run.folder / FOLDER), write_to_disk=True, flush_secs=FLUSH, **purge)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)

    def end(self, status: Status, summary: Mapping[str, float | str]) -> None:
        self._writer.close()
