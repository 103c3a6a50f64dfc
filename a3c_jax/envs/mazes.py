"""Random mazes, and how they are written down for a Doom engine."""

from __future__ import annotations

from collections.abc import Iterable
import functools
import struct
from typing import NamedTuple
import zlib

import numpy as np

CELL = 96  # Units of the map per cell; the agent is 32 wide.
HEADINGS = 8  # An agent starts in one of so many directions.
_WALL = '*'
_ROOMS = 6  # Kinds of walls that rooms have; corridors have one more.
_APPLE, _PORTAL, _START = 15001, 15002, 1  # 1 is Doom's first player.

Cell = tuple[int, int]  # Row, column.


class Maze(NamedTuple):
  """Walls, and what lies between them."""

  walls: np.ndarray  # [size, size] bool
  textures: np.ndarray  # [size, size] int, of the walls around an open cell
  portal: Cell
  apples: tuple[Cell, ...]
  free: tuple[Cell, ...]  # open cells with nothing in them


def generate(
  rng: np.random.Generator, *, size: int, apples: int, rooms: bool
) -> Maze | None:
  """A maze of rooms and corridors, all of whose open cells are connected.

  Args:
    rng: draws the maze, and where the portal and the apples are.
    size: cells per side with the outer walls, odd and at least 5.
    apples: how many cells have an apple.
    rooms: whether the walls of each room look different.

  Returns:
    The maze; None if it has no cell left for the agent.
  """
  import labmaze

  layout = labmaze.RandomMaze(
    height=size,
    width=size,
    max_rooms=max(4, (size // 5) ** 2),
    room_min_size=3,
    room_max_size=min(5, size - 2),
    extra_connection_probability=0.05,
    simplify=False,  # Or it would fill up the dead ends.
    random_seed=int(rng.integers(1, 2**31)),
  )
  walls = np.array(layout.entity_layer) == _WALL
  cells = [(int(row), int(column)) for row, column in np.argwhere(~walls)]
  if len(cells) < apples + 2:
    return None
  cells = [cells[i] for i in rng.permutation(len(cells))]
  textures = np.zeros_like(walls, int)
  if rooms:
    kinds = 1 + rng.permutation(_ROOMS)
    letters = np.array(layout.variations_layer)
    for row, column in cells:
      letter = letters[row, column]
      if letter.isalpha():
        textures[row, column] = kinds[(ord(letter) - ord('A')) % _ROOMS]
  return Maze(
    walls=walls,
    textures=textures,
    portal=cells[0],
    apples=tuple(cells[1 : apples + 1]),
    free=tuple(cells[apples + 1 :]),
  )


def centre(cell: Cell) -> tuple[int, int]:
  """x and y on the map, of which y goes up."""
  row, column = cell
  return column * CELL + CELL // 2, -row * CELL - CELL // 2


def cell_at(x: float, y: float) -> Cell:
  """The cell in which a point of the map is."""
  return int(-y // CELL), int(x // CELL)


def level(maze: Maze, start: Cell, heading: int) -> bytes:
  """A WAD with the map of a maze, and the agent at a place in it.

  Args:
    maze: what to write.
    start: the agent's cell.
    heading: which way it looks: that many eighths of a turn, 0 is to the right
      on the map, 2 is up.
  """
  vertices: dict[Cell, int] = {}
  sides, lines, things = [], [], []

  def corner(row, column):
    return vertices.setdefault((row, column), len(vertices))

  for row, column in np.argwhere(~maze.walls).tolist():
    corners = [
      (row, column),
      (row, column + 1),
      (row + 1, column + 1),
      (row + 1, column),
    ]
    beyond = [
      (row - 1, column),
      (row, column + 1),
      (row + 1, column),
      (row, column - 1),
    ]
    wall = f'WALL{maze.textures[row, column]}'
    # Clockwise, so that the open cell is on the right of the line.
    for i, other in enumerate(beyond):
      if maze.walls[other]:
        begin, end = corner(*corners[i]), corner(*corners[(i + 1) % 4])
        lines.append(
          f'linedef {{ v1 = {begin}; v2 = {end}; sidefront = {len(sides)}; '
          'blocking = true; }'
        )
        sides.append(f'sidedef {{ sector = 0; texturemiddle = "{wall}"; }}')

  def put(cell, kind, angle=0):
    x, y = centre(cell)
    things.append(
      f'thing {{ x = {x}.0; y = {y}.0; angle = {angle}; type = {kind}; '
      'skill3 = true; single = true; }'
    )

  put(start, _START, 360 // HEADINGS * heading)
  put(maze.portal, _PORTAL)
  for cell in maze.apples:
    put(cell, _APPLE)
  text = [
    'namespace = "zdoom";',
    *(
      f'vertex {{ x = {column * CELL}.0; y = {-row * CELL}.0; }}'
      for row, column in vertices
    ),
    *sides,
    *lines,
    f'sector {{ heightfloor = 0; heightceiling = {CELL}; lightlevel = 255; '
    'texturefloor = "GROUND"; textureceiling = "CEILING"; }',
    *things,
  ]
  return _wad(
    [
      ('MAP01', b''),
      ('TEXTMAP', '\n'.join(text).encode()),
      ('ENDMAP', b''),
    ]
  )


def _wad(lumps: Iterable[tuple[str, bytes]]) -> bytes:
  """Doom's archive: a header, the lumps, and a directory of them."""
  header = struct.calcsize('<4sii')
  contents, directory = b'', b''
  count = 0
  for name, lump in lumps:
    place = header + len(contents)
    directory += struct.pack('<ii8s', place, len(lump), name.encode())
    contents += lump
    count += 1
  start = struct.pack('<4sii', b'PWAD', count, header + len(contents))
  return start + contents + directory


# States have to stand on a line each. Without reaction time, an agent moves
# from the first tic on.
_ACTORS = """
actor Agent : DoomPlayer
{
  ReactionTime 0
  Player.DisplayName "Agent"
}
"""
_ITEM = """
actor %(name)s : CustomInventory %(kind)d
{
  Radius %(radius)d
  Height 32
  +%(counts)s
  +INVENTORY.ALWAYSPICKUP
  +INVENTORY.QUIET
  Inventory.PickupMessage ""
  States
  {
  Spawn:
    %(sprite)s A -1 Bright
    Stop
  Pickup:
    TNT1 A 0
    Stop
  }
}
"""
_GAME = 'gameinfo { playerclasses = "Agent" }\n'


@functools.cache
def resources() -> bytes:
  """A WAD with what all mazes share: actors, sprites and textures."""
  actors = _ACTORS
  for name, kind, radius, counts, sprite in (
    ('Apple', _APPLE, 24, 'COUNTITEM', 'APPL'),
    ('Portal', _PORTAL, 28, 'COUNTSECRET', 'PORT'),
  ):
    actors += _ITEM % {
      'name': name,
      'kind': kind,
      'radius': radius,
      'counts': counts,
      'sprite': sprite,
    }
  walls = [(f'WALL{i}', _png(wall)) for i, wall in enumerate(_walls())]
  return _wad(
    [
      ('DECORATE', actors.encode()),
      ('ZMAPINFO', _GAME.encode()),
      ('S_START', b''),
      ('APPLA0', _png(_apple(), foot=True)),
      ('PORTA0', _png(_portal(), foot=True)),
      ('S_END', b''),
      ('TX_START', b''),
      *walls,
      ('GROUND', _png(_checks((96, 80, 64), (120, 100, 80), 32, 64))),
      ('CEILING', _png(_checks((150, 190, 235), (150, 190, 235), 32, 64))),
      ('TX_END', b''),
    ]
  )


def _png(pixels: np.ndarray, *, foot: bool = False) -> bytes:
  """A picture [H, W, 4] uint8; with `foot` it stands on its lower edge."""
  height, width, _ = pixels.shape

  def chunk(name, data):
    checksum = zlib.crc32(name + data)
    return (
      struct.pack('>I', len(data)) + name + data + struct.pack('>I', checksum)
    )

  rows = b''.join(b'\0' + row.tobytes() for row in pixels)
  shape = struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0)
  place = chunk(b'grAb', struct.pack('>ii', width // 2, height))
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', shape)
    + (place if foot else b'')
    + chunk(b'IDAT', zlib.compress(rows))
    + chunk(b'IEND', b'')
  )


def _opaque(mask, colours):
  """Where the mask is true the second colour, elsewhere the first."""
  pixels = np.full((*mask.shape, 4), 255, np.uint8)
  pixels[..., :3] = np.where(mask[..., None], colours[1], colours[0])
  return pixels


def _checks(dark, light, width, size):
  y, x = np.mgrid[:size, :size] // width
  return _opaque((x + y) % 2 == 0, (dark, light))


def _walls():
  """Those of corridors, and of `_ROOMS` kinds of rooms."""
  y, x = np.mgrid[:CELL, :CELL]
  joint = 48 * (y // 24 % 2)
  masks = [
    (y % 24 > 2) & ((x + joint) % 96 > 2),  # Bricks.
    (y % 32 > 3) & (x % 32 > 3),  # Tiles.
    x // 16 % 2 == 0,  # Upright stripes.
    y // 16 % 2 == 0,  # Level stripes.
    (x // 24 + y // 24) % 2 == 0,  # Checks.
    (x + y) // 16 % 2 == 0,  # Slanted stripes.
    (x % 32 - 16) ** 2 + (y % 32 - 16) ** 2 < 100,  # Dots.
  ]
  colours = [
    ((60, 60, 60), (140, 140, 140)),
    ((90, 20, 20), (190, 70, 50)),
    ((30, 70, 30), (70, 150, 60)),
    ((110, 80, 30), (220, 190, 80)),
    ((30, 40, 110), (80, 110, 200)),
    ((120, 90, 70), (230, 220, 200)),
    ((70, 40, 60), (200, 130, 160)),
  ]
  return [
    _opaque(mask, pair) for mask, pair in zip(masks, colours, strict=True)
  ]


def _apple():
  y, x = np.mgrid[:32, :32] - 15.5
  pixels = _opaque(np.hypot(x, y) < 9, ((210, 20, 20), (255, 60, 60)))
  stalk = (abs(x) < 2) & (y < -9)
  pixels[stalk, :3] = 90, 50, 10
  pixels[..., 3] = np.where((np.hypot(x, y) < 15) | stalk, 255, 0)
  return pixels


def _portal():
  y, x = np.mgrid[:72, :48]
  far = np.hypot((x - 23.5) / 24, (y - 35.5) / 36)
  pixels = _opaque(far < 0.6, ((40, 90, 255), (190, 240, 255)))
  pixels[..., 3] = np.where(far < 1, 255, 0)
  return pixels
