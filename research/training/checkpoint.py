"""Checkpoints: Orbax, asynchronous, the last k and the best, each with a digest of its whole state.

Orbax does not notice a flipped bit in its data files, so each checkpoint carries sha256 over the state it was made
from, and its progress a checksum; restore recomputes them. A checkpoint that cannot be read, reads back as another
state, or has lost the records it was saved with, is removed with a warning and the one before it is used. Which one is
best is the progress' word: Orbax would read it from files that nothing verifies. Of a folder in an object store Orbax
sees a copy here (`archive`).
"""

import contextlib
import logging
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from research.scratch import Scratch
from research.training import parallel, processes, record
from research.training import state as states
from research.training.archive import Archive

PyTree = Any
FOLDER = "checkpoints"
_log = logging.getLogger(__name__)
_in_turn = threading.Lock()


class Damaged(UserError):
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


def _best(progress: Mapping[str, Any]) -> int | None:
    best = progress.get("best")
    return best["step"] if best else None


class _Best(managers.PreservationPolicy):
    """Preserves the best checkpoint, once its step is known."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run folder.

    Where others of this process save too (not `alone`), each saves at once and in its turn: Orbax numbers its
    operations per process, and two that go on side by side take one another's folders for their own. `check`: see
    `archive`.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        cfg: CheckpointConfig,
        *,
        read_only: bool = False,
        alone: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = epath.Path(workdir)
        self._best, self._keeps_best, self._alone = _Best(), cfg.keep_best, alone
        place = self.folder / FOLDER
        self._archive: Archive | None = None
        if storage.is_remote(place):
            self._archive = Archive(place, keep_last=cfg.keep_last, asynchronous=cfg.asynchronous, check=check)
            self._scratch = Scratch()
            place = epath.Path(self._scratch.path) / FOLDER
            place.mkdir()
        keep = [managers.LatestN(1 if self._archive else cfg.keep_last)]
        own = jax.process_index() if self._archive else 0  # a disk of this host gets the whole state, from here alone
        options = ocp.CheckpointManagerOptions(
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=own,
                active_processes={own} if self._archive else None,
                barrier_sync_key_prefix=f"process{own}" if self._archive else None,
            ),
            preservation_policy=managers.AnyPreservationPolicy([*keep, *([self._best] if cfg.keep_best else [])]),
            create=not self._archive,
            enable_async_checkpointing=cfg.asynchronous and alone and not self._archive,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._local = Path(place.resolve())
        with _readable(place):
            items = "state", "progress", "statistics"
            self._manager = ocp.CheckpointManager(epath.Path(self._local), options=options, item_names=items)

    def save(
        self,
        step: int,
        state: PyTree,
        progress: Mapping[str, Any],
        *,
        statistics: PyTree | None = None,
    ) -> None:
        """Save after `step`; returns once the state is copied, the files are written behind it.

        `progress`: JSON values; its `best`, where there is one, has the `step` of the best so far. `statistics` are
        batch statistics that were estimated for the evaluation, and not the state's own.
        """
        if step in {*self._manager.all_steps(), *self.steps()}:
            return
        if self._archive:
            self._archive.wait()  # what is on its way is not to be removed here
            if processes.count() > 1:
                state, statistics = parallel.host(state), parallel.host(statistics)
        self._best.step = _best(progress)
        written = {
            **progress,
            "digest": states.digest(state),
            "weights_digest": states.digest(_weights(state, statistics)),
            "has_statistics": statistics is not None,
        }
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(record.sealed(written)),
            **({} if statistics is None else {"statistics": ocp.args.StandardSave(statistics)}),
        )
        if not self._archive or processes.is_first():
            with contextlib.nullcontext() if self._alone else _in_turn:
                saved = self._manager.save(step, args=items)
            if not saved:
                raise RuntimeError(f"checkpoint {step} was not saved: {self._manager.latest_step()} is already there")
        if self._archive:
            best = self._best.step if self._keeps_best else None
            self._archive.save(step, self._local / str(step), best)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        if self._archive:
            return self._archive.steps()
        with _readable(self._local):
            return sorted(self._manager.all_steps())

    def _read(self, step: int, items: ocp.args.Composite) -> Any:
        """Items of a checkpoint. Raises `Damaged`; of a store that cannot be asked, `OSError`."""
        if self._archive and step not in self._manager.all_steps():
            try:
                self._archive.fetch(step, self._local / str(step))
            except (FileNotFoundError, tarfile.TarError, EOFError) as error:
                raise self._damaged(step, f"cannot be read ({type(error).__name__})") from error
            self._manager.reload()
        try:
            return self._manager.restore(step, args=items)
        except Exception as error:  # a damaged file surfaces as one of at least six exception types
            raise self._damaged(step, f"cannot be read ({type(error).__name__})") from error

    def _damaged(self, step: int, how: str) -> Damaged:
        others = ", ".join(str(other) for other in self.steps() if other != step)
        return Damaged(f"checkpoint {step} of {self.folder} {how}; other checkpoints: {others or 'none'}")

    def restore(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """State and progress of one checkpoint, placed as `like` (shapes with shardings). Raises `Damaged`."""
        spread = bool(self._archive) and processes.count() > 1
        read = parallel.whole_here(like) if spread else like
        items = ocp.args.Composite(state=ocp.args.StandardRestore(read), progress=ocp.args.JsonRestore())
        restored, failure, progress = None, None, dict[str, Any]()
        try:
            restored = self._read(step, items)
            progress = self._opened(step, restored)
        except Damaged as error:
            failure = error
        if found := [words for words in processes.of_each(failure and str(failure)) if words]:
            raise failure or Damaged(found[0])
        assert restored is not None
        for key in ("weights_digest", "has_statistics"):
            progress.pop(key, None)
        if progress.pop("digest", None) != states.digest(restored["state"]):
            raise self._damaged(step, "is damaged: its digest does not match its state")
        self._best.step = _best(progress)
        return parallel.put_as(restored["state"], like) if spread else restored["state"], progress

    def _opened(self, step: int, restored: Any) -> dict[str, Any]:
        try:
            return record.opened(restored["progress"] or {})
        except ValueError as error:
            raise self._damaged(step, f"is damaged: {error}") from error

    def weights(self, step: int) -> dict[str, PyTree]:
        """{"params", "batch_stats"} of one checkpoint as NumPy arrays: what was evaluated.

        The averaged weights where the run kept them, and batch statistics estimated anew where it did that. Raises
        `Damaged`.
        """
        progress = self._progress(step)
        # Devices that saved it and are not here do not matter to what is taken to this machine's memory.
        whole = ocp.args.StandardRestore(fallback_sharding=parallel.one_device())
        items = {"state": whole} | ({"statistics": whole} if progress.get("has_statistics") else {})
        try:
            restored = self._read(step, ocp.args.Composite(**items))
            found = jax.tree.map(np.asarray, _weights(restored["state"], restored.get("statistics")))
        except Damaged:
            raise
        except (KeyError, TypeError, ValueError) as error:  # another tree than a state's
            raise self._damaged(step, f"cannot be read ({type(error).__name__})") from error
        if progress.get("weights_digest") != states.digest(found):
            raise self._damaged(step, "is damaged: its digest does not match its weights")
        return found

    def weights_digest(self, step: int) -> str:
        """The digest (hex) of what `weights` gives for one checkpoint. Raises `UserError` where it has none."""
        digest = self._progress(step).get("weights_digest")
        if digest is None:
            raise UserError(f"checkpoint {step} has no digest of its weights; train the run anew")
        return digest

    def _progress(self, step: int) -> dict[str, Any]:
        return self._opened(step, self._read(step, ocp.args.Composite(progress=ocp.args.JsonRestore())))

    def restore_latest(
        self, like: PyTree, complete: Callable[[int, Mapping[str, Any]], bool]
    ) -> tuple[PyTree, dict[str, Any]] | None:
        """State and progress of the newest sound checkpoint, or None where the run is to start anew.

        `complete`: whether what lies beside a checkpoint (step, progress) is what it was saved with. Those after the
        sound one are removed with a warning. Raises `RunFailed`, and removes nothing, where no checkpoint can be read:
        the reason may lie elsewhere (a network folder, another version of the code).
        """
        damaged, unreadable = list[int](), True
        for step in reversed(self.steps()):
            try:
                found = self.restore(step, like)
            except Damaged as damage:
                _log.warning("%s; falling back to the one before it", damage)
                damaged.append(step)
                continue
            if complete(step, found[1]):
                self.remove(damaged)
                return found
            _log.warning("checkpoint %d of %s has lost records it was saved with; falling back", step, self.folder)
            damaged.append(step)
            unreadable = False
        if damaged and unreadable:
            raise RunFailed(f"no checkpoint can be read (steps {damaged}); move {self.folder} away to start anew")
        self.remove(damaged)
        return None

    def keep_until(self, step: int, complete: Callable[[int, Mapping[str, Any]], bool]) -> None:
        """Remove checkpoints after `step`, those that cannot be read, and those that are not `complete`."""
        for at in self.steps():
            try:
                kept = at <= step and complete(at, self._progress(at))
            except UserError:
                kept = False
            if not kept:
                self.remove([at])

    def remove(self, steps: Sequence[int]) -> None:
        """Remove checkpoints: saving again what is there would silently do nothing."""
        for step in steps:
            if step in self._manager.all_steps():
                self._manager.delete(step)
            if self._archive:
                self._archive.remove(step)

    def find(self, which: str) -> int:
        """The step that `best`, `last` or a number means. Raises `UserError` naming the steps there are."""
        steps = self.steps()
        if not steps:
            raise UserError("no checkpoint in this folder; expected a run that was saved at least once")
        if which == "last":
            return steps[-1]
        if which == "best":
            best = _best(self._progress(steps[-1]))
            if best is not None and best not in steps and self._keeps_best:
                raise UserError(f"the best checkpoint ({best}) of {self.folder} is gone; the last is {steps[-1]}")
            return best if best in steps else steps[-1]
        if which.isdecimal() and int(which) in steps:
            return int(which)
        raise UserError(f"unknown checkpoint {which!r}; expected best, last or one of {', '.join(map(str, steps))}")

    def wait(self) -> None:
        """Block until what was saved is on disk, or in its store; raises what went wrong there, in every process."""
        self._manager.wait_until_finished()
        if self._archive:
            processes.everywhere(self._archive.wait)

    def close(self) -> None:
        """Wait and release the threads, and what was written here of a store's checkpoints."""
        with contextlib.ExitStack() as closing:
            if self._archive:
                closing.callback(self._scratch.remove)
                closing.callback(self._archive.close)
            self._manager.close()
