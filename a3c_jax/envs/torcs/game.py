"""A race of TORCS in its own process, without a window."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import mmap
import os
import pathlib
import socket
import subprocess
import tempfile
from typing import Any
import weakref

import gymnasium
import numpy as np

from a3c_jax.core import errors
from a3c_jax.envs.torcs import installed, races

TICK = 0.02  # Seconds of simulated time; TORCS simulates 0.02 or 0.022.
_EPISODES = 200  # Per process: each leaks about 30 kB.
_ANSWER_SECONDS = 60.0  # To wait for an answer.
_MOST_CARS, _MOST_POINTS = 16, 8192
_POINT = np.dtype(
  [(name, np.float32) for name in ('x', 'y', 'heading', 'curve', 'width')]
)


def _shared(size: int) -> np.dtype:
  """Layout of the memory shared with the plugin; `Shared` in plugin.cpp."""
  return np.dtype(
    [
      *(
        (name, np.int32)
        for name in ('bytes', 'width', 'height', 'repeat', 'cars')
      ),
      *(
        (name, np.float32) for name in ('steer', 'accelerate', 'brake', 'start')
      ),
      ('points', np.int32),
      *(
        (name, np.float32)
        for name in (
          *('length', 'speed', 'angle', 'to_middle', 'track_width'),
          *('distance', 'x', 'y', 'damage'),
        )
      ),
      ('gear', np.int32),
      ('engine_speed', np.float32),
      ('unused', np.float32),
      ('time', np.float64),
      ('others', np.float32, _MOST_CARS),
      ('line', _POINT, _MOST_POINTS),
      ('image', np.uint8, (size, size, 3)),
    ]
  )


class Game:
  """A car on a track, for one thread.

  The process of TORCS ends with `close`, when this object is garbage-collected,
  and when this process ends in any way. TORCS reads its files from a temporary
  folder, which is removed after the start. It writes none.

  Attributes:
    state: the plugin's memory, a record that changes with every call. `_shared`
      has the names, plugin.cpp the units.
    process: number of the process of TORCS, or None.
  """

  def __init__(self, options: races.Options, *, size: int):
    """Prepares a game; `begin` starts the process.

    Args:
      options: as for `races.write`.
      size: height and width of an image, pixels.

    Raises:
      UsageError: if TORCS or the compiled plugin is missing.
    """
    plugin = installed.check_compiled()
    self._options = options
    # The camera 'behind' swings after the car: it depends on earlier episodes.
    self._always_new = options.opponents > 0 or options.camera == 'behind'
    self._episodes = 0
    self._closed = False
    self._end: Callable[[], str | None] = lambda: ''
    self.process: int | None = None
    layout = _shared(size)
    memory = os.memfd_create('a3c_jax-torcs')
    os.truncate(memory, layout.itemsize)
    self._memory = memory
    # Used by its descriptor: the file may be replaced while the game lives.
    self._plugin = os.open(plugin, os.O_RDONLY)
    mapped = mmap.mmap(memory, layout.itemsize)
    self.state: Any = np.frombuffer(mapped, layout).view(np.recarray)[0]
    self.state.bytes = layout.itemsize
    self.state.width = self.state.height = size
    self.state.repeat = options.action_repeat
    self.state.cars = 1 + options.opponents
    self._owner = os.getpid()
    for each in (memory, self._plugin):
      weakref.finalize(self, os.close, each)

  def begin(self, start: float) -> None:
    """Starts a race, with all cars at rest and the opponents ahead.

    The same start gives the same race.

    Args:
      start: of our car, as a fraction of the lap, 0 to 1.

    Raises:
      RunError: in a fork, or if the process does not start, with the end of its
        output.
      ClosedEnvironmentError: after `close`.
    """
    self._check_usable()
    self.state.start = start
    if self.process and not self._always_new and self._episodes < _EPISODES:
      self._episodes += 1
      self._ask(b'r')
    else:
      self._start()
      self._episodes = 1

  def step(self, steer: float, accelerate: float, brake: float) -> None:
    """Drives for one step of some ticks.

    Args:
      steer: -1 to 1 of the wheels' largest angle; left is positive.
      accelerate: 0 to 1.
      brake: 0 to 1.

    Raises:
      RunError: in a fork, or if the process has ended or does not answer.
      ClosedEnvironmentError: after `close`.
      ResetNeeded: if there is no race.
    """
    self._check_usable()
    if not self.process:
      raise gymnasium.error.ResetNeeded('there is no race')
    state = self.state
    state.steer, state.accelerate, state.brake = steer, accelerate, brake
    self._ask(b's')

  def _check_usable(self):
    if self._closed:
      raise gymnasium.error.ClosedEnvironmentError('the game is closed')
    if os.getpid() != self._owner:
      raise errors.RunError(
        f'this game of TORCS belongs to process {self._owner}; a fork needs an '
        'environment of its own'
      )

  def image(self) -> np.ndarray:
    """The camera's image, [size, size, 3] uint8 RGB."""
    return self.state.image[::-1].copy()

  def line(self) -> np.ndarray:
    """The middle of the track, [N] with x, y, heading, curve and width.

    The points are one lap from the start line on, at equal distances. Units are
    those of `Point` in plugin.cpp.
    """
    return self.state.line[: self.state.points].copy()

  def others(self) -> np.ndarray:
    """Each opponent's distance from the start line, [opponents], metres."""
    return self.state.others[1 : 1 + self._options.opponents].copy()

  def close(self) -> None:
    """Ends the process."""
    self._closed = True
    self._stop()

  def _stop(self):
    self.process = None
    self._end()

  def _start(self):
    self._stop()
    with (
      errors.naming(f'TMPDIR={tempfile.gettempdir()}'),
      tempfile.TemporaryDirectory(
        prefix='a3c_jax-torcs-', ignore_cleanup_errors=True
      ) as name,
    ):
      folder = pathlib.Path(name)
      programs = installed.programs()
      if programs is None:
        raise errors.RunError('TORCS did not start: it was uninstalled')
      race = races.write(
        folder,
        self._options,
        plugin=pathlib.Path(_descriptor(self._plugin)),
        programs=programs,
      )
      with errors.naming('TORCS did not start'):
        self._launch(folder, race, programs)
      self._wait('did not start')

  def _launch(self, folder, race, programs):
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undo:
      undo.callback(ours.close)
      output = os.memfd_create('a3c_jax-torcs-output')
      undo.callback(os.close, output)
      talk = theirs.fileno()
      environment = os.environ | {
        'A3C_JAX_TORCS': f'{os.getpid()},{talk},{self._memory},{folder}',
        'LD_PRELOAD': _descriptor(self._plugin),
        'LD_LIBRARY_PATH': str(programs / 'lib'),
        'HOME': str(folder),
        # TORCS renders by software, in one thread, on every machine.
        'LIBGL_ALWAYS_SOFTWARE': '1',
        'LP_NUM_THREADS': '0',
        'MESA_SHADER_CACHE_DISABLE': 'true',
      }
      process = subprocess.Popen(
        [
          *(programs / 'torcs-bin', '-l', folder / 'local'),
          *('-L', folder / 'lib', '-D', installed.DATA, '-r', race),
        ],
        cwd=installed.DATA,
        env=environment,
        pass_fds=(talk, self._memory, self._plugin),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches this process alone.
      )
      undo.pop_all()
    ours.settimeout(_ANSWER_SECONDS)
    self._talk = ours
    self._end = weakref.finalize(self, _end, process, ours, output, os.getpid())
    self.process = process.pid

  def _ask(self, byte):
    with contextlib.suppress(OSError):  # It has ended: `_wait` reports that.
      self._talk.send(byte)
    self._wait('ended')

  def _wait(self, what):
    try:
      problem = ''
      try:
        answer = self._talk.recv(1)
      except TimeoutError:
        answer, problem = b'', f'no answer for {_ANSWER_SECONDS:.0f} seconds; '
      except ConnectionError:
        answer = b''
      if not answer:
        raise errors.RunError(f'TORCS {what}: {problem}{self._end()}')
    except BaseException:  # After Ctrl-C, the answer would come too late.
      self._stop()
      raise


def _end(process, talk, output, owner) -> str:
  """Kills a process; returns its exit code and the end of its output."""
  if os.getpid() != owner:  # In a fork, which does not own the process.
    return ''
  process.poll()
  talk.close()
  process.kill()  # It may hang.
  code = process.wait()
  text = os.pread(output, os.fstat(output).st_size, 0).decode(errors='replace')
  os.close(output)
  lines = [line.strip() for line in text.split('\n') if line.strip()]
  return f'exit code {code}; it printed: {" / ".join(lines[-3:]) or "nothing"}'


def _descriptor(number):
  return f'/proc/self/fd/{number}'
