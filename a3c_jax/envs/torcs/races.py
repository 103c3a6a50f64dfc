"""What a race of TORCS is like, and the files that TORCS reads at its start."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any
from xml.etree import ElementTree

from a3c_jax.core import fields
from a3c_jax.envs.torcs import installed

MOST_OPPONENTS = 10  # The robot `bt` has so many drivers.
CAMERAS = {  # Number of TORCS' list of cameras, and of the camera in it.
  'road': (0, 4),  # From the driver's seat, without the car.
  'bonnet': (0, 2),
  'behind': (0, 0),
}
_NAME = 'a3c_jax'  # Of our driver, in the plugin too.
_OPPONENT = 'bt'  # A robot that drives well and has a setup for every driver.
_VIEW = 600.0  # Metres that its cameras see, times its 'fov factor'.

Section = dict[str, Any]  # Numbers, text and sections, by name.


@dataclasses.dataclass(frozen=True)
class Options:
  """A race, and the length of an episode."""

  track: str = fields.setting(
    "Name of one of TORCS' tracks.",
    'a name such as e-track-5, g-track-1 or aalborg',
    lambda value: bool(value) and isinstance(value, str),
    default='e-track-5',
    source='ours',
  )
  car: str = fields.setting(
    "slow (p406), fast (car1-trb1), or the name of one of TORCS' cars.",
    'slow, fast, or a name such as car1-ow1',
    lambda value: bool(value) and isinstance(value, str),
    default='slow',
    source='paper, section 5.2, has a slow and a fast one',
  )
  opponents: int = fields.count(
    "Cars of TORCS' robot bt, of the same kind, which start in front.",
    least=0,
    most=MOST_OPPONENTS,
    default=0,
    source='paper, section 5.2, has none and some',
  )
  camera: str = fields.one_of(
    'road (without the car), bonnet, or behind (shows the car; needs a new '
    'process for every episode).',
    tuple(CAMERAS),
    default='road',
    source='ours',
  )
  view_distance: float = fields.setting(
    'Metres that the camera sees, with fog from half of them on; less is '
    'faster.',
    'a number from 10 to 1e6',
    lambda value: 10 <= value <= 1e6,
    default=150.0,
    source='ours',
  )
  start: str = fields.one_of(
    'Where episodes start: anywhere on the lap (random), or at the start line '
    '(line).',
    ('random', 'line'),
    default='random',
    source='ours',
  )
  episode_seconds: float = fields.positive(
    'Longest episode, seconds of simulated time.', default=60.0, source='ours'
  )
  action_repeat: int = fields.count(
    'Ticks of 0.02 s per agent step.', most=50, default=8, source='ours'
  )


def tracks() -> dict[str, str]:
  """The installed tracks, each with its category."""
  return {
    path.name: path.parent.name
    for path in sorted((installed.DATA / 'tracks').glob('*/*'))
    if (path / f'{path.name}.xml').exists()
  }


def cars() -> tuple[str, ...]:
  """The installed cars."""
  return tuple(
    path.name
    for path in sorted((installed.DATA / 'cars').glob('*'))
    if (path / f'{path.name}.xml').exists()
  )


def write(
  folder: pathlib.Path,
  options: Options,
  *,
  plugin: pathlib.Path,
  programs: pathlib.Path,
) -> pathlib.Path:
  """Writes the files that TORCS reads at its start.

  Args:
    folder: where to write them.
    options: of the race, with TORCS' own name of the car.
    plugin: path of the compiled plugin, which is the driver of our car.
    programs: as `installed.programs`.

  Returns:
    Path of the file of the race.
  """
  drivers = folder / 'lib/drivers'
  (drivers / _NAME).mkdir(parents=True)
  (drivers / _NAME / f'{_NAME}.so').symlink_to(plugin)
  (drivers / _OPPONENT).symlink_to(programs / 'drivers' / _OPPONENT)
  (folder / 'lib/modules').symlink_to(programs / 'modules')
  config = folder / 'local/config'
  (config / 'raceman').mkdir(parents=True)
  shutil.copy(installed.DATA / 'config/raceengine.xml', config)
  documents = {
    'config/graph.xml': _graphics(options),
    'config/sound.xml': {'Sound Settings': {'state': 'disabled', 'volume': 0}},
    f'drivers/{_NAME}/{_NAME}.xml': _team([(1, _NAME)], options.car),
    f'drivers/{_OPPONENT}/{_OPPONENT}.xml': _team(
      [(k, f'{_OPPONENT} {k}') for k in range(MOST_OPPONENTS)], options.car
    ),
    'config/raceman/race.xml': _race(options),
  }
  for name, content in documents.items():
    path = folder / 'local' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    root = ElementTree.Element('params', name=path.stem)
    _fill(root, content)
    ElementTree.ElementTree(root).write(path, 'utf-8', xml_declaration=True)
  return folder / 'local/config/raceman/race.xml'


def _fill(element: ElementTree.Element, content: Section) -> None:
  """Adds content to an XML element."""
  for name, value in content.items():
    if isinstance(value, dict):
      _fill(ElementTree.SubElement(element, 'section', name=name), value)
    else:
      kind = 'attstr' if isinstance(value, str) else 'attnum'
      ElementTree.SubElement(element, kind, name=name, val=str(value))


def _graphics(options: Options) -> Section:
  boards = {
    name: 0
    for name in (
      *('debug info', 'driver board', 'leader board', 'driver counter'),
      *('G graph', 'arcade', 'enable mirror'),
    )
  } | {'map mode': 1}  # None.
  head, camera = CAMERAS[options.camera]
  view = {'current driver': _NAME, 'camera head list': head, 'camera': camera}
  return {
    'Graphic': {
      'smoke value': 0,
      'skid value': 0,
      'fov factor': options.view_distance / _VIEW,
      'LOD Factor': 1.0,
      'wheel rendering': 'simple',
    },
    'OpenGL Features': {'user texture sizelimit': 256},
    'Display Mode': {'0': view | boards, '1': boards, '2': boards, '3': boards},
  }


def _team(members: list[tuple[int, str]], car: str) -> Section:
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


def _race(options: Options) -> Section:
  # Our driver comes first, so that TORCS starts no race without it.
  drivers = [(_NAME, 1), *((_OPPONENT, k) for k in range(options.opponents))]
  name = 'Quick Race'
  return {
    'Header': {'name': name},
    'Tracks': {
      'maximum number': 1,
      '1': {'name': options.track, 'category': tracks()[options.track]},
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
      # No limit: else TORCS would remove the car, and the plugin not answer.
      'maximum dammage': 0,
    },
    'Drivers': {
      'maximum number': len(drivers),
      'focused module': _NAME,
      'focused idx': 1,
      **{
        str(number): {'idx': index, 'module': module}
        for number, (module, index) in enumerate(drivers, 1)
      },
    },
  }
