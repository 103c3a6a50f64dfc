"""What a race of TORCS is like, and the files that TORCS reads at its start."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from typing import Any
from xml.etree import ElementTree

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Track, cars and camera of a race, and what is observed of it."""

  track: str  # Of `tracks`.
  car: str  # Of `cars`.
  opponents: int  # 0 to MOST_OPPONENTS.
  camera: str  # Of CAMERAS.
  view_distance: float  # Metres, of the camera.
  repeat: int  # Ticks per step.
  size: int  # Height and width of an image, pixels.


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
  settings: Settings,
  *,
  plugin: pathlib.Path,
  programs: pathlib.Path,
) -> pathlib.Path:
  """Writes the files that TORCS reads at its start.

  Args:
    folder: where to write them.
    settings: of the race.
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


def _fill(element: ElementTree.Element, content: Section) -> None:
  """Adds content to an XML element."""
  for name, value in content.items():
    if isinstance(value, dict):
      _fill(ElementTree.SubElement(element, 'section', name=name), value)
    else:
      kind = 'attstr' if isinstance(value, str) else 'attnum'
      ElementTree.SubElement(element, kind, name=name, val=str(value))


def _graphics(settings: Settings) -> Section:
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


def _race(settings: Settings) -> Section:
  # Our driver comes first, so that TORCS starts no race without it.
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
