"""SIGTERM and SIGINT as a question the loop answers at the end of a step, instead of the end of the process."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that a signal sets; the second SIGINT interrupts at once.

    A signal that came too late for the block to act on (the run had just finished) is sent again when the block
    ends, so that whoever launched the run hears of it. Outside the main thread, where Python delivers no signals,
    the event is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    came: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        asked.set()

    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, old in before.items():
            signal.signal(number, old)
    if came:
        os.kill(os.getpid(), came[-1])
