"""Checkpoints on object stores: `STEP.tar` is a folder of Orbax's, `STEP.json` says that it is there.

Orbax renames folders, which no store does in one step, and has no driver for s3://. So it writes to this machine, and a
checkpoint goes up as one file, which a store shows whole or not at all. `STEP.json` is written after it and removed
before it: it has the metric by which the best is known without reading all of them.
"""

import json
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from etils import epath

from research import storage


class Archive:
    """The checkpoints in a store's `folder`, of which the last `keep_last` and, with `keep_best`, the best are kept.

    One upload is on its way at a time; where not `asynchronous`, `save` waits for it. `check` is called before one
    counts: it raises where the folder went to another process meanwhile.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        keep_last: int,
        keep_best: bool,
        higher_is_better: bool,
        asynchronous: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._check = epath.Path(folder), check
        self._keep_last, self._keep_best, self._asynchronous = keep_last, keep_best, asynchronous
        self._sign = 1 if higher_is_better else -1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._going: Future[None] | None = None
        found = [int(n.removesuffix(".json")) for n in storage.names(folder) if n.removesuffix(".json").isdigit()]
        metrics = storage.each(self._metric_of, found, folder)
        self._metrics = dict(zip(found, metrics, strict=True))  # of each checkpoint; None: it was not evaluated

    def _metric_of(self, step: int) -> float | None:
        try:
            metric: float | None = json.loads(storage.read(self._file(step, "json")) or b"")["metric"]
        except (ValueError, KeyError, TypeError):  # damaged, or removed since: its state will tell
            return None
        return metric

    def _file(self, step: int, kind: str) -> epath.Path:
        return self._folder / f"{step}.{kind}"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return sorted(self._metrics)

    def best(self) -> int | None:
        """The step with the best metric, the later of equals; None where no checkpoint was evaluated."""
        evaluated = [(self._sign * metric, step) for step, metric in self._metrics.items() if metric is not None]
        return max(evaluated)[1] if evaluated else None

    def save(self, step: int, local: Path, metric: float | None) -> None:
        """Upload what Orbax has written to the folder `local`, and remove what is no longer to be kept.

        What went wrong with the upload before is raised here.
        """
        self.wait()
        self._going = self._pool.submit(self._upload, step, local, metric)
        if not self._asynchronous:
            self.wait()

    def _upload(self, step: int, local: Path, metric: float | None) -> None:
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=local.parent.parent) as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(local, arcname=".")
            packed.flush()
            storage.upload(Path(packed.name), self._file(step, "tar"))
        self._check()
        storage.write(self._file(step, "json"), json.dumps({"metric": metric}))
        self._metrics = {**self._metrics, step: metric}  # anew: another thread may be reading it
        kept = {*self.steps()[-self._keep_last :], *([self.best()] if self._keep_best else [])}
        for old in set(self._metrics) - kept:
            self.remove(old)

    def fetch(self, step: int, local: Path) -> None:
        """Bring a checkpoint to the folder `local`. Raises `FileNotFoundError`, `tarfile.TarError`."""
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=local.parent.parent) as packed:
            storage.download(self._file(step, "tar"), Path(packed.name))
            with tarfile.open(packed.name) as tar:
                tar.extractall(local, filter="data")

    def remove(self, step: int) -> None:
        """Remove a checkpoint."""
        storage.remove(self._file(step, "json"))
        storage.remove(self._file(step, "tar"))
        self._metrics = {other: metric for other, metric in self._metrics.items() if other != step}

    def wait(self) -> None:
        """Block until what was saved is in the store; raises what went wrong there."""
        going, self._going = self._going, None
        if going is not None:
            going.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()
