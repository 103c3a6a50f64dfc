"""Shows a run on standard output. Only scripts use it."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import math
import sys

import rich.console
import rich.progress

from a3c_jax.runs import logger as logger_lib


class LiveLine:
  """A line of progress below all others. Shown only on a terminal."""

  def __init__(self):
    self._console = rich.console.Console(highlight=False)
    self._live = self._task = None
    if self._console.is_terminal and not self._console.is_dumb_terminal:
      self._live = rich.progress.Progress(
        rich.progress.BarColumn(bar_width=10),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn('{task.description}'),
        rich.progress.TimeRemainingColumn(compact=True),
        console=self._console,
        auto_refresh=False,  # Its thread would compete with the workers.
      )

  @property
  def shown(self) -> bool:
    """Whether the line is shown now."""
    return self._task is not None

  def update(self, text: str, *, done: float, total: float) -> None:
    """Updates the line; the first call shows it."""
    if self._live is None:
      return
    if self._task is None:
      self._live.start()
      self._task = self._live.add_task('', total=total)
    self._live.update(self._task, completed=done, description=text)
    self._live.refresh()

  def print(self, text: str) -> None:
    """Prints text above the line."""
    if self.shown:
      self._console.print(text, markup=False)
    else:
      print(text, flush=True)

  def close(self) -> None:
    """Ends the line, and releases the terminal."""
    if self._live is not None and self.shown:
      self._live.stop()
      self._task = None


class Display(logging.Handler):
  """Prints messages, and the progress of a run: live on a terminal."""

  def __init__(self):
    super().__init__()
    self._line = LiveLine()

  def update(self, text: str, *, done: float, total: float) -> None:
    """Updates the live line."""
    self._line.update(text, done=done, total=total)

  def print_result(self, text: str) -> None:
    """Ends the live line, and prints the result of a run."""
    self._line.close()
    print(text, flush=True)

  def emit(self, record: logging.LogRecord) -> None:
    text = record.getMessage()
    if record.levelno >= logging.WARNING:
      text = f'{record.levelname.lower()}: {text}'
      if not self._line.shown:
        print(text, file=sys.stderr, flush=True)
        return
    # The live line shows a row's figures already.
    if not (self._line.shown and hasattr(record, 'progress')):
      self._line.print(text)

  def close(self) -> None:
    self._line.close()
    super().close()


class ProgressLine(logger_lib.Logger):
  """Keeps the live line of a run: scores, lag, frames and speed."""

  def __init__(self, display: Display):
    """Shows nothing yet."""
    self._display = display
    self._lag = self._evaluation = ''

  def on_row(self, row: logger_lib.TrainRow) -> None:
    lag = row.figures['lag']
    if not math.isnan(lag):  # As while a replay memory is filled.
      self._lag = f'  lag {lag:.1f}'

  def on_evaluation(self, row: logger_lib.EvalRow) -> None:
    self._evaluation = f'  eval {_short(row.mean_return)}'

  def on_progress(self, progress: logger_lib.Progress) -> None:
    score = 'none yet'
    if not math.isnan(progress.mean_return):
      score = _short(progress.mean_return)
    frames = f'{progress.frames:,} frames'
    if progress.frames >= 1e6:
      frames = f'{progress.frames / 1e6:.2f}M'
    self._display.update(
      f'return {score}{self._evaluation}{self._lag}  {frames}  '
      f'{progress.frames_per_second:,.0f}/s',
      done=progress.frames,
      total=progress.total_frames,
    )


def _short(score: float) -> str:
  """Returns a score in at most six characters, if it is below a million."""
  return f'{score:.2f}' if abs(score) < 100 else f'{score:.0f}'


@contextlib.contextmanager
def shown() -> Iterator[Display]:
  """Shows all messages of the library within a block."""
  logger = logging.getLogger('a3c_jax')
  display = Display()
  before = logger.level, logger.propagate
  logger.addHandler(display)
  logger.setLevel(logging.INFO)
  logger.propagate = False  # absl's handler of the root would show them again.
  try:
    yield display
  finally:
    logger.removeHandler(display)
    logger.setLevel(before[0])
    logger.propagate = before[1]
    display.close()
