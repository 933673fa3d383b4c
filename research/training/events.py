"""TensorBoard's events on object stores: kept in memory, and written whole whenever tensorboardX flushes.

Its own writers for stores need a library and settings each (`boto3`, `S3_ENDPOINT`), and a failed upload ends their
thread, after which the run hangs on a full queue.
"""

import io
import logging

from research import storage

_log = logging.getLogger(__name__)


class _File:
    """A file of events as tensorboardX writes it."""

    def __init__(self, path: str) -> None:
        self._path, self._content, self._is_behind = path, io.BytesIO(), False

    def write(self, data: bytes) -> None:
        self._content.write(data)
        self._is_behind = True

    def flush(self) -> None:
        """Upload what there is. Where that fails the next time may not: `metrics.jsonl` has all of it too."""
        if not self._is_behind:
            return
        try:
            storage.write(self._path, self._content.getvalue())
            self._is_behind = False
        except OSError as error:
            _log.warning("TensorBoard events are not written: %s", error)

    def close(self) -> None:
        self.flush()


class _Files:
    """What tensorboardX asks for the files of a scheme."""

    def open(self, path: str) -> _File:
        return _File(path)

    def directory_check(self, path: str) -> None:
        """A store has no folders to be made."""


def register() -> None:
    """Let tensorboardX write to stores in this way."""
    from tensorboardX import record_writer

    for scheme in storage.LIBRARIES:
        record_writer.register_writer_factory(scheme, _Files())
