"""A TensorBoard event file that can be resumed. A failing write raises."""

from __future__ import annotations

from collections.abc import Mapping
import math
import os
import pathlib
import time
from typing import Any

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from a3c_jax.core import files
from a3c_jax.runs import logger

_proto: Any = event_pb2  # Protobuf makes its classes at import.
_SUFFIX = '.a3c_jax'  # Other event files in the folder are not ours.


class EventLogger(logger.Logger):
  """Writes scalars and a histogram of lags for TensorBoard.

  All writing happens in the calling thread, so a full disk raises here. With
  `SummaryWriter` of tensorboardX, its queue would hang.
  """

  def __init__(self, workdir: pathlib.Path, earlier: Mapping[str, int]):
    """Opens a new file beside those of earlier sessions.

    Args:
      workdir: existing folder.
      earlier: sizes in bytes of the event files of earlier sessions, by name.
        The files are truncated to them, and other files of ours are removed.

    Raises:
      OSError: if it cannot be written.
    """
    self._earlier = dict(earlier)
    _truncate(workdir, self._earlier)
    self._writer = EventsWriter(
      str(workdir / 'events'),
      # Two sessions may begin within the second that is in the name.
      f'.{len(self._earlier)}{_SUFFIX}',
    )
    self._path = pathlib.Path(self._writer._file_name).absolute()

  def sizes(self) -> dict[str, int]:
    """Writes all events to the disk, and returns bytes by name of the file."""
    self.flush()
    with self._path.open('rb') as events:
      files.sync(events.fileno())
      size = events.seek(0, os.SEEK_END)
    return self._earlier | {self._path.name: size}

  def restart(self, frames: int) -> None:
    """Makes TensorBoard drop what it has read from `frames` on."""
    self._write(
      frames,
      session_log=_proto.SessionLog(status=_proto.SessionLog.START),
    )

  def on_episode(self, row: logger.EpisodeRow) -> None:
    self._scalar('episode/return', row.episode_return, row.frames)
    self._scalar('episode/frames', row.episode_frames, row.frames)

  def on_row(self, row: logger.TrainRow) -> None:
    self._histogram('train/lag_histogram', row.lags, row.frames)
    for name, value in row.scalars.items():
      self._scalar(f'train/{name}', value, row.frames)
    self.flush()

  def on_evaluation(self, row: logger.EvalRow) -> None:
    for name in ('mean_return', 'median_return', 'human_normalized'):
      value = getattr(row, name)
      if value is not None:
        self._scalar(f'eval/{name}', value, row.frames)
    self.flush()

  def _scalar(self, name: str, value: float, frames: int) -> None:
    """Writes one number, unless it is not finite: tensorboardX would print."""
    if math.isfinite(value):
      self._write(frames, summary=summary.scalar(name, float(value)))

  def _histogram(
    self, name: str, counts: Mapping[int, int], frames: int
  ) -> None:
    """Writes how often each whole number occurred; nothing if none did."""
    if not counts:
      return
    values = sorted(counts)
    how_often = [counts[value] for value in values]
    self._write(
      frames,
      summary=summary.histogram_raw(
        name,
        min=values[0],
        max=values[-1],
        num=sum(how_often),
        sum=sum(value * counts[value] for value in values),
        sum_squares=sum(value**2 * counts[value] for value in values),
        bucket_limits=[value + 0.5 for value in values],
        bucket_counts=how_often,
      ),
    )

  def _write(self, frames, **content):
    self._writer.write_event(
      _proto.Event(wall_time=time.time(), step=frames, **content)
    )

  def flush(self) -> None:
    """Writes all buffered events to the file."""
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


def _truncate(workdir: pathlib.Path, sizes: Mapping[str, int]) -> None:
  """Truncates event files to earlier sizes, and removes newer files."""
  for path in workdir.glob(f'events.out.tfevents.*{_SUFFIX}'):
    if path.name not in sizes:
      path.unlink()
    elif path.stat().st_size > sizes[path.name]:
      os.truncate(path, sizes[path.name])
