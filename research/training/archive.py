"""Checkpoints on object stores: `STEP.tar` is a folder of Orbax's, `STEP.json` says that it is there.

Orbax renames folders, which no store does in one step, and has no driver for s3://. So it writes to this machine, and a
checkpoint goes up as one file, which a store shows whole or not at all. `STEP.json` is written after it and removed
before it.
"""

import json
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from etils import epath

from research import storage
from research.training import processes


class Archive:
    """The checkpoints in a store's `folder`, of which the last `keep_last` and the best are kept.

    One upload is on its way at a time; where not `asynchronous`, `save` waits for it. `check` is called before one
    counts: it raises where the folder went to another process meanwhile. Of processes that train together the first
    alone writes to the store, and has the whole state; the others remember what there is.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        keep_last: int,
        asynchronous: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._check = epath.Path(folder), check
        self._keep_last, self._asynchronous = keep_last, asynchronous
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._going: Future[None] | None = None
        names = [name.removesuffix(".json") for name in storage.names(folder) if name.endswith(".json")]
        self._steps = frozenset(int(name) for name in names if name.isdecimal())

    def _file(self, step: int, kind: str) -> epath.Path:
        return self._folder / f"{step}.{kind}"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return sorted(self._steps)

    def save(self, step: int, local: Path, best: int | None) -> None:
        """Upload what Orbax has written to the folder `local`, and remove what is no longer to be kept.

        `best`: a step that is, however old it is. What went wrong with the upload before is raised here.
        """
        self.wait()
        if not processes.is_first():
            return self._keep(step, best)
        self._going = self._pool.submit(self._upload, step, local, best)
        if not self._asynchronous:
            self.wait()
        return None

    def _upload(self, step: int, local: Path, best: int | None) -> None:
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=local.parent.parent) as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(local, arcname=".")
            packed.flush()
            storage.upload(Path(packed.name), self._file(step, "tar"))
        self._check()
        storage.write(self._file(step, "json"), json.dumps({"best": best}))
        self._keep(step, best)

    def _keep(self, step: int, best: int | None) -> None:
        self._steps |= {step}
        for old in self._steps - {*self.steps()[-self._keep_last :], best}:
            self.remove(old)

    def fetch(self, step: int, local: Path) -> None:
        """Bring a checkpoint to the folder `local`. Raises `FileNotFoundError`, `tarfile.TarError`."""
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=local.parent.parent) as packed:
            storage.download(self._file(step, "tar"), Path(packed.name))
            with tarfile.open(packed.name) as tar:
                tar.extractall(local, filter="data")

    def remove(self, step: int) -> None:
        """Remove a checkpoint."""
        if processes.is_first():
            storage.remove(self._file(step, "json"))
            storage.remove(self._file(step, "tar"))
        self._steps -= {step}

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
