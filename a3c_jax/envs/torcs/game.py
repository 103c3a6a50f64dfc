"""A race of TORCS in a process of its own, without a window."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import weakref
from xml.etree import ElementTree

import gymnasium
import numpy as np

from a3c_jax.core import errors
from a3c_jax.envs.torcs import installed

TICK = 0.02  # Seconds of simulated time, of which TORCS makes 0.02 or 0.022.
MOST_OPPONENTS = 10  # Of the robot `bt`.
CAMERAS = {  # Number of a list of TORCS' cameras, and of one in it.
  'road': (0, 4),  # From the driver's place, and the car is not drawn.
  'bonnet': (0, 2),
  'behind': (0, 0),
}
_NAME = 'a3c_jax'  # Of our driver, in the plugin too.
_OPPONENT = 'bt'  # It has a setup for every place in a team, and drives well.
_EPISODES = 200  # With one process: each leaves some 30 kB in it.
_PATIENCE = 60.0  # Seconds for an answer.
_VIEW = 600.0  # Metres that its cameras see, times its 'fov factor'.
_MOST_CARS, _MOST_POINTS = 16, 8192
_POINT = np.dtype(
  [(name, np.float32) for name in ('x', 'y', 'heading', 'curve', 'width')]
)


def _shared(size: int) -> np.dtype:
  """What this process and the plugin share; `Shared` in plugin.cpp."""
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
      ('picture', np.uint8, (size, size, 3)),
    ]
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """What a race is like."""

  track: str  # Of `tracks`.
  car: str  # Of `cars`.
  opponents: int  # 0 to MOST_OPPONENTS.
  camera: str  # Of CAMERAS.
  view_distance: float  # Metres, of the camera.
  repeat: int  # Ticks per step.
  size: int  # Pixels of a picture, height and width.


def tracks() -> dict[str, str]:
  """Names of the tracks that are installed, each with its category."""
  return {
    path.name: path.parent.name
    for path in sorted((installed.DATA / 'tracks').glob('*/*'))
    if (path / f'{path.name}.xml').exists()
  }


def cars() -> tuple[str, ...]:
  """Names of the cars that are installed."""
  return tuple(
    path.name
    for path in sorted((installed.DATA / 'cars').glob('*'))
    if (path / f'{path.name}.xml').exists()
  )


class Game:
  """A car on a track, for one thread.

  Its process ends with `close`, when this object is collected, and when this
  process ends, however that happens. What it reads at its start is in a
  temporary folder, which is removed then; it writes nothing.

  Attributes:
    state: what the plugin tells, a record that changes with every call;
      `_shared` has the names, plugin.cpp the units.
    process: its number, or None.
  """

  def __init__(self, settings: Settings):
    """Starts nothing yet.

    Raises:
      UsageError: if TORCS or the compiled plugin is not there.
    """
    plugin = installed.check_compiled()
    self._settings = settings
    # A camera that swings after the car remembers the episode before.
    self._always_new = settings.opponents > 0 or settings.camera == 'behind'
    self._episodes = 0
    self._closed = False
    self._end = lambda: None
    self.process: int | None = None
    layout = _shared(settings.size)
    memory = os.memfd_create('a3c_jax-torcs')
    os.truncate(memory, layout.itemsize)
    self._memory = memory
    # Open, and named by that: another one may be compiled in the meantime.
    self._plugin = os.open(plugin, os.O_RDONLY)
    mapped = mmap.mmap(memory, layout.itemsize)
    self.state = np.frombuffer(mapped, layout).view(np.recarray)[0]
    self.state.bytes = layout.itemsize
    self.state.width = self.state.height = settings.size
    self.state.repeat = settings.repeat
    self.state.cars = 1 + settings.opponents
    self._owner = os.getpid()
    for each in (memory, self._plugin):
      weakref.finalize(self, os.close, each)

  def begin(self, start: float) -> None:
    """Puts the cars at rest, the opponents before ours.

    The same start gives the same race.

    Args:
      start: of our car, a share of the lap, 0 to 1.

    Raises:
      RunError: if the process does not start, with what it said, or in a fork.
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
    """Drives for some ticks.

    Args:
      steer: -1 to 1 of what the car can; left is positive.
      accelerate: 0 to 1.
      brake: 0 to 1.

    Raises:
      RunError: if the process has ended or does not answer, or in a fork.
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
        f'this game of TORCS is that of process {self._owner}; a fork needs an '
        'environment of its own'
      )

  def picture(self) -> np.ndarray:
    """What the camera sees, [size, size, 3] uint8 RGB."""
    return self.state.picture[::-1].copy()

  def line(self) -> np.ndarray:
    """The middle of the track, [N] with x, y, heading, curve and width.

    Units are those of `Point` in plugin.cpp; one turn around the track, from
    the start line on, in equal distances.
    """
    return self.state.line[: self.state.points].copy()

  def others(self) -> np.ndarray:
    """Metres from the start line of each opponent, [opponents]."""
    return self.state.others[1 : 1 + self._settings.opponents].copy()

  def close(self) -> None:
    """Ends the process."""
    self._closed = True
    self._stop()

  def _stop(self):
    self.process = None
    self._end()

  def _start(self):
    self._stop()
    try:
      with tempfile.TemporaryDirectory(
        prefix='a3c_jax-torcs-', ignore_cleanup_errors=True
      ) as name:
        folder = pathlib.Path(name)
        programs = installed.programs()
        race = _write(folder, self._settings, self._plugin, programs)
        try:
          self._launch(folder, race, programs)
        except OSError as error:
          raise errors.RunError(
            f'TORCS did not start: {error.strerror}'
          ) from error
        self._wait('did not start')
    except OSError as error:
      raise errors.RunError(
        f'TMPDIR={tempfile.gettempdir()}: {error.strerror}'
      ) from error

  def _launch(self, folder, race, programs):
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undo:
      undo.callback(ours.close)
      words = os.memfd_create('a3c_jax-torcs-words')
      undo.callback(os.close, words)
      talk = theirs.fileno()
      environment = os.environ | {
        'A3C_JAX_TORCS': f'{os.getpid()},{talk},{self._memory},{folder}',
        'LD_PRELOAD': _descriptor(self._plugin),
        'LD_LIBRARY_PATH': str(programs / 'lib'),
        'HOME': str(folder),
        # Pictures are drawn by this process, by one thread of it, everywhere.
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
        stdout=words,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process alone.
      )
      undo.pop_all()
    ours.settimeout(_PATIENCE)
    self._talk = ours
    self._end = weakref.finalize(self, _end, process, ours, words, os.getpid())
    self.process = process.pid

  def _ask(self, byte):
    with contextlib.suppress(OSError):  # It has ended, which is told below.
      self._talk.send(byte)
    self._wait('ended')

  def _wait(self, what):
    try:
      problem = ''
      try:
        answer = self._talk.recv(1)
      except TimeoutError:
        answer, problem = b'', f'no answer for {_PATIENCE:.0f} seconds; '
      except ConnectionError:
        answer = b''
      if not answer:
        raise errors.RunError(f'TORCS {what}: {problem}{self._end()}')
    except BaseException:  # After Ctrl-C an answer would come too late.
      self._stop()
      raise


def _end(process, talk, words, owner) -> str:
  """Ends a process; returns its exit code and what it said last."""
  if os.getpid() != owner:  # A fork, whose game it is not.
    return ''
  process.poll()
  talk.close()
  process.kill()  # It may be stuck.
  code = process.wait()
  said = os.pread(words, os.fstat(words).st_size, 0).decode(errors='replace')
  os.close(words)
  lines = [line.strip() for line in said.split('\n') if line.strip()]
  return f'exit code {code}; it said: {" / ".join(lines[-3:]) or "nothing"}'


def _descriptor(number):
  return f'/proc/self/fd/{number}'


def _write(folder, settings, plugin, programs) -> pathlib.Path:
  """Writes what TORCS reads at its start; returns the race."""
  drivers = folder / 'lib/drivers'
  (drivers / _NAME).mkdir(parents=True)
  (drivers / _NAME / f'{_NAME}.so').symlink_to(_descriptor(plugin))
  (drivers / _OPPONENT).symlink_to(programs / 'drivers' / _OPPONENT)
  (folder / 'lib/modules').symlink_to(programs / 'modules')
  config = folder / 'local/config'
  (config / 'raceman').mkdir(parents=True)
  shutil.copy(installed.DATA / 'config/raceengine.xml', config)
  documents = {
    'config/graph.xml': _graphics(settings),
    'config/sound.xml': {'Sound Settings': {'state': 'disabled', 'volume': 0}},
    f'drivers/{_NAME}/{_NAME}.xml': _team([(1, _NAME)], settings.car),
    f'drivers/{_OPPONENT}/{_OPPONENT}.xml': _team(
      [(k, f'{_OPPONENT} {k}') for k in range(MOST_OPPONENTS)], settings.car
    ),
    'config/raceman/race.xml': _race(settings),
  }
  for name, content in documents.items():
    path = folder / 'local' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    root = ElementTree.Element('params', name=path.stem)
    _fill(root, content)
    ElementTree.ElementTree(root).write(path, 'utf-8', xml_declaration=True)
  return folder / 'local/config/raceman/race.xml'


def _fill(element, content):
  for name, value in content.items():
    if isinstance(value, dict):
      _fill(ElementTree.SubElement(element, 'section', name=name), value)
    else:
      kind = 'attstr' if isinstance(value, str) else 'attnum'
      ElementTree.SubElement(element, kind, name=name, val=str(value))


def _graphics(settings):
  boards = {
    name: 0
    for name in (
      *('debug info', 'driver board', 'leader board', 'driver counter'),
      *('G graph', 'arcade', 'enable mirror'),
    )
  } | {'map mode': 1}  # None.
  head, camera = CAMERAS[settings.camera]
  view = {'current driver': _NAME, 'camera head list': head, 'camera': camera}
  return {
    'Graphic': {
      'smoke value': 0,
      'skid value': 0,
      'fov factor': settings.view_distance / _VIEW,
      'LOD Factor': 1.0,
      'wheel rendering': 'simple',
    },
    'OpenGL Features': {'user texture sizelimit': 256},
    'Display Mode': {'0': view | boards, '1': boards, '2': boards, '3': boards},
  }


def _team(members, car):
  return {
    'Robots': {
      'index': {
        str(index): {
          'name': name,
          'team': name,
          'car name': car,
          'race number': index + 1,
          **{'red': 1.0, 'green': 0.0, 'blue': 0.0},
        }
        for index, name in members
      }
    }
  }


def _race(settings):
  # Ours comes first: if it cannot be loaded, there is no race without it.
  drivers = [(_NAME, 1), *((_OPPONENT, k) for k in range(settings.opponents))]
  name = 'Quick Race'
  return {
    'Header': {'name': name},
    'Tracks': {
      'maximum number': 1,
      '1': {'name': settings.track, 'category': tracks()[settings.track]},
    },
    'Races': {'1': {'name': name}},
    name: {
      'laps': 100_000,
      'type': 'race',
      'starting order': 'drivers list',
      'restart': 'no',
      'display results': 'no',
      'fuel consumption factor': 0,
      'damage factor': 1,
      # No limit: TORCS would take the car away and go on without an answer.
      'maximum dammage': 0,
    },
    'Drivers': {
      'maximum number': len(drivers),
      'focused module': _NAME,
      'focused idx': 1,
      **{
        str(place): {'idx': index, 'module': module}
        for place, (module, index) in enumerate(drivers, 1)
      },
    },
  }
