"""What a person sees while a run trains: one live line on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class Display:
    """Context manager for the progress of one run of `steps` steps, of which `start` are done."""

    def __init__(self, steps: int, start: int = 0, *, enabled: bool = True) -> None:
        self._steps, self._start, self._enabled = steps, start, enabled
        self._console = Console(file=sys.stderr)
        self._live = enabled and self._console.is_terminal
        self._progress: Progress | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        if self._live:
            columns = (BarColumn(12), TaskProgressColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console)
            self._progress.start()
            text = f"step {self._start}/{self._steps} compiling"
            self._task = self._progress.add_task("train", total=self._steps, completed=self._start, text=text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line."""
        if self._enabled:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def record(self, record: Mapping[str, Any]) -> None:
        """Show a training or evaluation record: step, epoch, loss, accuracy, images per second, time left."""
        step = record["step"]
        evaluation = {key: value for key, value in record.items() if key.startswith("eval") and _shown(key, value)}
        if evaluation:
            numbers = "  ".join(f"{key} {_number(value)}" for key, value in evaluation.items())
            self.say(f"step {step}/{self._steps}  epoch {record['epoch']:.2f}  {numbers}")
            return
        training = {k.removeprefix("train/"): v for k, v in record.items() if k.startswith("train/") and _shown(k, v)}
        numbers = "  ".join(f"{key} {_number(value)}" for key, value in training.items())
        text = f"{numbers}  {record['images_per_second']:.0f} img/s"
        if self._progress is not None:
            self._progress.update(self._task, completed=step, text=f"{step}/{self._steps}  {text}")
        else:
            self.say(f"step {step}/{self._steps}  epoch {record['epoch']:.2f}  {text}  left {self._left(step)}")

    def _left(self, step: int) -> str:
        done = max(step - self._start, 1)
        seconds = round((time.perf_counter() - self._began) / done * (self._steps - step))
        return f"{seconds // 3600:d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _shown(key: str, value: Any) -> bool:
    return isinstance(value, int | float) and key.rpartition("/")[2] in ("loss", "top1", "subset_accuracy")
