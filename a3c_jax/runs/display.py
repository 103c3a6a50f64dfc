"""Shows a run on standard output: what scripts add to the library's logger."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import sys

import rich.console
import rich.progress

from a3c_jax.runs import log as log_lib


class Display(logging.Handler):
  """Prints messages, and on a terminal a live line of progress below them."""

  def __init__(self):
    super().__init__()
    console = rich.console.Console(highlight=False)
    self._live = self._task = None
    if console.is_terminal and not console.is_dumb_terminal:
      self._live = rich.progress.Progress(
        rich.progress.BarColumn(bar_width=20),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn('{task.description}'),
        rich.progress.TimeRemainingColumn(compact=True),
        console=console,
        auto_refresh=False,  # Its thread would compete with the workers.
      )

  def progress(self, progress: log_lib.Progress) -> None:
    """Updates the live line, on a terminal."""
    if self._live is None:
      return
    if self._task is None:
      self._live.start()
      self._task = self._live.add_task('', total=progress.total_frames)
    self._live.update(
      self._task, completed=progress.frames, description=str(progress)
    )
    self._live.refresh()

  def emit(self, record: logging.LogRecord) -> None:
    text = record.getMessage()
    if record.levelno >= logging.WARNING:
      text = f'{record.levelname.lower()}: {text}'
      if self._task is None:
        print(text, file=sys.stderr, flush=True)
        return
    if self._live is None:
      print(text, flush=True)
    elif self._task is None or not hasattr(record, 'progress'):
      self._live.console.print(text, markup=False)

  def close(self) -> None:
    if self._task is not None:
      self._live.stop()
    super().close()


@contextlib.contextmanager
def shown() -> Iterator[Display]:
  """Shows all that the library logs, within a block."""
  logger = logging.getLogger('a3c_jax')
  display = Display()
  before = logger.level
  logger.addHandler(display)
  logger.setLevel(logging.INFO)
  try:
    yield display
  finally:
    logger.removeHandler(display)
    logger.setLevel(before)
    display.close()
