"""A TensorBoard event file whose writes fail aloud, and that can be resumed."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import os
import pathlib
import time

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from a3c_jax.core import files

_SUFFIX = '.a3c_jax'  # Other event files in the folder are not ours.


class EventFile(contextlib.AbstractContextManager):
  """Scalars for TensorBoard.

  All writing happens in the calling thread: a full disk raises here, where
  tensorboardX's own `SummaryWriter` would hang a queue.
  """

  def __init__(self, workdir: pathlib.Path, earlier: Mapping[str, int]):
    """Opens a new file beside those of earlier sessions.

    Args:
      workdir: existing folder.
      earlier: sizes in bytes of the event files of earlier sessions, by name,
        to which they are cut back; others of ours are removed.

    Raises:
      OSError: if it cannot be written.
    """
    self._earlier = dict(earlier)
    _cut_back(workdir, self._earlier)
    self._writer = EventsWriter(
      str(workdir / 'events'),
      # Two sessions may begin within the second that the name tells.
      f'.{len(self._earlier)}{_SUFFIX}',
    )
    self._path = pathlib.Path(self._writer._file_name).absolute()

  def sizes(self) -> dict[str, int]:
    """Bytes of all event files, once they are on the disk, by name."""
    self.flush()
    with self._path.open('rb') as events:
      files.sync(events.fileno())
      size = events.seek(0, os.SEEK_END)
    return self._earlier | {self._path.name: size}

  def restart(self, frames: int) -> None:
    """Makes a TensorBoard forget what it has read from `frames` on."""
    self._write(
      frames,
      session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
    )

  def scalar(self, name: str, value: float, frames: int) -> None:
    """Writes one number."""
    self._write(frames, summary=summary.scalar(name, float(value)))

  def _write(self, frames, **content):
    self._writer.write_event(
      event_pb2.Event(wall_time=time.time(), step=frames, **content)
    )

  def flush(self) -> None:
    """Hands all events over to the file."""
    self._writer.flush()

  def __exit__(self, *exception):
    self._writer.close()


def _cut_back(workdir, sizes) -> None:
  """Cuts event files back to the sizes they had, and removes newer ones."""
  for path in workdir.glob(f'events.out.tfevents.*{_SUFFIX}'):
    if path.name not in sizes:
      path.unlink()
    elif path.stat().st_size > sizes[path.name]:
      os.truncate(path, sizes[path.name])
