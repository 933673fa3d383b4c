"""MLflow: a run there for each run here, found again by a tag that has its id.

Where it goes is said by its own variables (`MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`, ...).
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from research.errors import UserError
from research.training.trackers import Run, Status, Tracker
from research.values import flatten

LIBRARY, EXTRA = "mlflow", "mlflow"
EXPERIMENT = "convscale"  # of a run of no study, where MLFLOW_EXPERIMENT_NAME does not say
ID = "convscale.run"  # the tag with the id of a run
ENDED = {"finished": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}
AT_ONCE = 100  # parameters that one request may have; of metrics it may have more


def check() -> None:
    """Make the tables of a file of SQLite, which several processes cannot at once. Raises `UserError`."""
    _quiet()
    import mlflow
    from mlflow.exceptions import MlflowException

    if (place := mlflow.get_tracking_uri()).startswith("sqlite:"):
        try:
            mlflow.MlflowClient().search_experiments(max_results=1)
        except MlflowException as error:
            raise UserError(f"the tracker mlflow cannot write to {place}: {str(error)[:200]}") from error


def _quiet() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for library in ("mlflow", "alembic"):  # which tell of the tables that they make
        logging.getLogger(library).setLevel(logging.WARNING)


def begin(run: Run) -> Tracker:
    """Begin a run, in place of one with this id that is there, or go on with it after `run.start`."""
    return _Followed(run)


class _Followed:
    def __init__(self, run: Run) -> None:
        _quiet()
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._known: dict[str, int] = {}  # metrics that may have been sent before -> up to which step
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group or EXPERIMENT)
        found = self._client.search_runs([experiment], f"tags.`{ID}` = '{run.id}'")
        if run.start == 0:
            for old in found:
                self._client.delete_run(old.info.run_id)
        if run.start and found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            self._known = {key: self._last_step(key) for key in found[0].data.metrics}
            return
        self._id = self._client.create_run(experiment, run_name=run.name, tags={ID: run.id}).info.run_id
        config = {key: str(value) for key, value in flatten(run.config).items()}
        self._send(params=config)

    def _experiment(self, name: str) -> str:
        """The id of the experiment of this name, which several processes may be about to create."""
        from mlflow.exceptions import MlflowException

        if (there := self._client.get_experiment_by_name(name)) is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                if (there := self._client.get_experiment_by_name(name)) is None:
                    raise
        return str(there.experiment_id)

    def _last_step(self, key: str) -> int:
        return max(point.step for point in self._client.get_metric_history(self._id, key))

    def _send(self, params: Mapping[str, str] = {}, metrics: Mapping[str, float] = {}, step: int = 0) -> None:
        from mlflow.entities import Metric, Param

        now = round(time.time() * 1000)
        for some in _parts([Param(key, value) for key, value in params.items()]):
            self._client.log_batch(self._id, params=some)
        for some in _parts([Metric(key, value, now, step) for key, value in metrics.items()]):
            self._client.log_batch(self._id, metrics=some)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """What it has of these steps is the same, to the bit: it keeps every point that it is sent."""
        self._send(metrics={key: value for key, value in numbers.items() if step > self._known.get(key, -1)}, step=step)

    def end(self, status: Status, summary: Mapping[str, float | str]) -> None:
        if status == "lost":
            return
        numbers = {key: value for key, value in summary.items() if not isinstance(value, str)}
        self._send(
            metrics={f"summary/{key}": value for key, value in numbers.items()}, step=int(numbers.get("step", 0))
        )
        for key, value in summary.items():
            if isinstance(value, str):
                self._client.set_tag(self._id, key, value)
        self._client.set_terminated(self._id, status=ENDED[status])


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
