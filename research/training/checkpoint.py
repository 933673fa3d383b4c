"""Checkpoints: Orbax, asynchronous, the last k and the best, each with a digest of its whole state.

Orbax does not notice a flipped bit in its data files, so each checkpoint carries sha256 over the state it was made
from; restore recomputes it. A checkpoint that cannot be read, or reads back as another state, is removed with a
warning and the one before it is used. Of a folder in an object store Orbax sees a copy here (`archive`).
"""

import contextlib
import logging
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from research import storage
from research.config import CheckpointConfig
from research.errors import RunFailed, UserError, described
from research.training import parallel, processes
from research.training import state as states
from research.training.archive import Archive

PyTree = Any
FOLDER = "checkpoints"
_log = logging.getLogger(__name__)
_in_turn = threading.Lock()


class Damaged(RuntimeError):
    """A checkpoint exists but does not read back as the state it was made from."""


def _weights(state: PyTree, statistics: PyTree | None) -> dict[str, PyTree]:
    """Parameters and batch statistics of a state, or of the dictionary it is read back as; averaged if there are.

    `statistics` take the place of the state's own, where there are such.
    """
    held = state if isinstance(state, dict) else {key: getattr(state, key) for key in ("params", "batch_stats", "ema")}
    chosen = held.get("ema") or held
    return {"params": chosen["params"], "batch_stats": statistics or chosen.get("batch_stats") or {}}


@contextlib.contextmanager
def _readable(folder: epath.PathLike) -> Iterator[None]:
    """Raises `UserError` where Orbax cannot read what it keeps beside the states: names of steps, metrics."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, NotADirectoryError) as error:
        raise UserError(f"{folder} holds damaged checkpoints, or something else ({described(error)})") from error


class Checkpoints:
    """The checkpoints of one run folder. `higher_is_better` says which metric value is best.

    Where others of this process save too (not `alone`), each saves at once and in its turn: Orbax numbers its
    operations per process, and two that go on side by side take one another's folders for their own. `check`: see
    `archive`.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        cfg: CheckpointConfig,
        *,
        higher_is_better: bool,
        read_only: bool = False,
        alone: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        folder = epath.Path(workdir) / FOLDER
        self._archive: Archive | None = None
        if storage.is_remote(folder):
            self._archive = Archive(
                folder,
                keep_last=cfg.keep_last,
                keep_best=cfg.keep_best,
                higher_is_better=higher_is_better,
                asynchronous=cfg.asynchronous,
                check=check,
            )
            self._scratch = tempfile.TemporaryDirectory(prefix="convscale-", ignore_cleanup_errors=True)
            folder = epath.Path(self._scratch.name) / FOLDER
            folder.mkdir()
        keep: list[managers.PreservationPolicy] = [managers.LatestN(1 if self._archive else cfg.keep_last)]
        if cfg.keep_best and not self._archive:
            keep.append(
                managers.BestN(
                    get_metric_fn=lambda metrics: metrics["value"],
                    reverse=not higher_is_better,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(keep),
            best_fn=lambda metrics: metrics["value"],  # without it Orbax neither writes metrics nor knows a best step
            best_mode="max" if higher_is_better else "min",
            enable_async_checkpointing=cfg.asynchronous and alone and not self._archive,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._alone = alone
        self._folder = Path(folder.resolve())
        with _readable(folder):
            items = "state", "progress", "statistics"
            self._manager = ocp.CheckpointManager(epath.Path(self._folder), options=options, item_names=items)

    def save(
        self,
        step: int,
        state: PyTree,
        progress: Mapping[str, Any],
        *,
        metric: float | None = None,
        statistics: PyTree | None = None,
    ) -> None:
        """Save after `step`; returns once the state is copied, the files are written behind it.

        `statistics` are batch statistics that were estimated for the evaluation, and not the state's own.
        """
        if step in {*self._manager.all_steps(), *self.steps()}:
            return
        if self._archive:
            self._archive.wait()  # what is on its way is not to be removed here
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(
                {
                    **progress,
                    "digest": states.digest(state),
                    "weights_digest": states.digest(_weights(state, statistics)),
                    "has_statistics": statistics is not None,
                }
            ),
            **({} if statistics is None else {"statistics": ocp.args.StandardSave(statistics)}),
        )
        with contextlib.nullcontext() if self._alone else _in_turn:
            saved = self._manager.save(step, args=items, metrics=None if metric is None else {"value": metric})
        if not saved:
            raise RuntimeError(f"checkpoint {step} was not saved: {self._manager.latest_step()} is already there")
        if self._archive:
            self._archive.save(step, self._folder / str(step), metric)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        if self._archive:
            return self._archive.steps()
        with _readable(self._folder):
            return sorted(self._manager.all_steps())

    def _read(self, step: int, items: ocp.args.Composite) -> Any:
        """Items of a checkpoint. Raises `Damaged`; of a store that cannot be asked, `OSError`."""
        if self._archive and step not in self._manager.all_steps():
            try:
                self._archive.fetch(step, self._folder / str(step))
            except (FileNotFoundError, tarfile.TarError, EOFError) as error:
                raise Damaged(f"checkpoint {step} cannot be read ({type(error).__name__})") from error
            self._manager.reload()
        try:
            return self._manager.restore(step, args=items)
        except Exception as error:  # a damaged file surfaces as one of at least six exception types
            raise Damaged(f"checkpoint {step} cannot be read ({type(error).__name__})") from error

    def _delete(self, step: int) -> None:
        if step in self._manager.all_steps():
            self._manager.delete(step)
        if self._archive:
            self._archive.remove(step)

    def restore(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """State and progress of one checkpoint, placed as `like` (shapes with shardings). Raises `Damaged`."""
        items = ocp.args.Composite(state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore())
        restored, failure = None, None
        try:
            restored = self._read(step, items)
        except Damaged as error:
            failure = error
        if found := [words for words in processes.of_each(failure and str(failure)) if words]:
            raise failure or Damaged(found[0])
        assert restored is not None
        progress = dict(restored["progress"] or {})
        for key in ("weights_digest", "has_statistics"):
            progress.pop(key, None)
        if progress.pop("digest", None) != states.digest(restored["state"]):
            raise Damaged(f"checkpoint {step} is damaged: its digest does not match its state")
        return restored["state"], progress

    def weights(self, step: int) -> dict[str, PyTree]:
        """{"params", "batch_stats"} of one checkpoint as NumPy arrays: what was evaluated.

        The averaged weights where the run kept them, and batch statistics estimated anew where it did that. Raises
        `UserError` where it is damaged.
        """
        progress = self._progress(step)
        # Devices that saved it and are not here do not matter to what is taken to this machine's memory.
        whole = ocp.args.StandardRestore(fallback_sharding=parallel.one_device())
        items = {"state": whole} | ({"statistics": whole} if progress.get("has_statistics") else {})
        try:
            restored = self._read(step, ocp.args.Composite(**items))
            found = jax.tree.map(np.asarray, _weights(restored["state"], restored.get("statistics")))
        except (Damaged, KeyError, TypeError, ValueError) as error:  # another tree than a state's
            raise UserError(f"checkpoint {step} cannot be read ({type(error.__cause__ or error).__name__})") from error
        if progress.get("weights_digest") != states.digest(found):
            raise UserError(f"checkpoint {step} is damaged: its digest does not match its weights")
        return found

    def weights_digest(self, step: int) -> str:
        """The digest (hex) of what `weights` gives for one checkpoint. Raises `UserError` where it has none."""
        digest = self._progress(step).get("weights_digest")
        if digest is None:
            raise UserError(f"checkpoint {step} has no digest of its weights; train the run anew")
        return digest

    def _progress(self, step: int) -> dict[str, Any]:
        try:
            restored = self._read(step, ocp.args.Composite(progress=ocp.args.JsonRestore()))
        except Damaged as error:
            raise UserError(str(error)) from error
        return dict(restored["progress"] or {})

    def restore_latest(self, like: PyTree) -> tuple[PyTree, dict[str, Any]] | None:
        """State and progress of the newest sound checkpoint, or None where there is none at all.

        Damaged ones after it are removed with a warning. Raises `RunFailed`, and removes nothing, where no checkpoint
        can be read: the reason may lie elsewhere (a network folder, another version of the code).
        """
        damaged: list[int] = []
        for step in reversed(self.steps()):
            try:
                found = self.restore(step, like)
            except Damaged as damage:
                _log.warning("%s; falling back to the one before it", damage)
                damaged.append(step)
                continue
            for after in damaged:  # or saving them again would silently do nothing
                self._delete(after)
            return found
        if damaged:
            raise RunFailed(f"no checkpoint can be read (steps {damaged}); move the folder away to start anew")
        return None

    def find(self, which: str) -> int:
        """The step that `best`, `last` or a number means. Raises `UserError` naming the steps there are."""
        steps = self.steps()
        if not steps:
            raise UserError("no checkpoint in this folder; expected a run that was saved at least once")
        if which == "last":
            return steps[-1]
        if which == "best":
            with _readable(self._folder):
                best = self._archive.best() if self._archive else self._manager.best_step()
            return steps[-1] if best is None else best
        if which.isdecimal() and int(which) in steps:
            return int(which)
        raise UserError(f"unknown checkpoint {which!r}; expected best, last or one of {', '.join(map(str, steps))}")

    def wait(self) -> None:
        """Block until what was saved is on disk, or in its store; raises what went wrong there."""
        self._manager.wait_until_finished()
        if self._archive:
            self._archive.wait()

    def close(self) -> None:
        """Wait and release the threads, and what was written here of a store's checkpoints."""
        with contextlib.ExitStack() as closing:
            if self._archive:
                closing.callback(self._scratch.cleanup)
                closing.callback(self._archive.close)
            self._manager.close()
