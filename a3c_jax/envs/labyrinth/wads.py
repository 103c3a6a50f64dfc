"""WADs, Doom's archives: for one maze, and for what all mazes share."""

from __future__ import annotations

from collections.abc import Mapping
import functools
import struct
import zlib

import numpy as np

from a3c_jax.envs.labyrinth.mazes import CELL, HEADINGS, Cell, Maze, centre

_APPLE, _PORTAL, _START = 15001, 15002, 1  # 1 is Doom's first player.
# Pixels per side, a power of two. Else the engine would read beyond a texture's
# memory at some edges of walls.
_TEXTURE = 64

Corner = tuple[int, int]  # Row, column of the cell below and to the right.


def level(maze: Maze, start: Cell, heading: int) -> bytes:
  """A WAD with the map of a maze, and the agent in it.

  Args:
    maze: its walls, portal and apples.
    start: the agent's cell.
    heading: the agent's, in eighths of a turn; 0 is to the right on the map, 2
      is up.
  """
  lines = _lines(maze)
  vertices = {}
  for ends in lines:
    for corner in ends:
      vertices.setdefault(corner, len(vertices))
  things = [(maze.portal, _PORTAL, 0)]
  things += [(cell, _APPLE, 0) for cell in maze.apples]
  things.append((start, _START, 360 // HEADINGS * heading))
  text = ['namespace = "zdoom";']
  scale = f'{_TEXTURE / CELL:.6f}'  # One texture per piece of wall.
  for row, column in vertices:
    text.append(f'vertex {{ x = {column * CELL}.0; y = {-row * CELL}.0; }}')
  for i, ((begin, end), texture) in enumerate(lines.items()):
    text.append(
      f'linedef {{ v1 = {vertices[begin]}; v2 = {vertices[end]}; '
      f'sidefront = {i}; blocking = true; }}'
      f'sidedef {{ sector = 0; texturemiddle = "WALL{texture}"; '
      f'scalex_mid = {scale}; scaley_mid = {scale}; }}'
    )
  text.append(
    f'sector {{ heightfloor = 0; heightceiling = {CELL}; lightlevel = 255; '
    'texturefloor = "GROUND"; textureceiling = "CEILING"; }'
  )
  for cell, kind, angle in things:
    x, y = centre(cell)
    text.append(
      f'thing {{ x = {x}.0; y = {y}.0; angle = {angle}; type = {kind}; '
      'skill3 = true; single = true; }'
    )
  return wad({'MAP01': b'', 'TEXTMAP': '\n'.join(text).encode(), 'ENDMAP': b''})


def _lines(maze) -> dict[tuple[Corner, Corner], int]:
  """The texture of each piece of wall, by its two corners.

  Seen from the first corner towards the second, the open cell is on the right.
  """
  lines = {}
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
    for i, other in enumerate(beyond):
      if maze.walls[other]:
        ends = corners[i], corners[(i + 1) % 4]
        lines[ends] = int(maze.textures[row, column])
  return lines


def wad(lumps: Mapping[str, bytes]) -> bytes:
  """A WAD: a header, the lumps, and their directory."""
  header = struct.calcsize('<4sii')
  contents, directory = b'', b''
  for name, lump in lumps.items():
    position = header + len(contents)
    directory += struct.pack('<ii8s', position, len(lump), name.encode())
    contents += lump
  start = struct.pack('<4sii', b'PWAD', len(lumps), header + len(contents))
  return start + contents + directory


# Each state needs a line of its own. Without reaction time, an agent moves from
# the first tic on.
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
  """A WAD with the actors, sprites and textures of all mazes."""
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
  walls = {f'WALL{i}': _png(wall) for i, wall in enumerate(_walls())}
  return wad(
    {
      'DECORATE': actors.encode(),
      'ZMAPINFO': _GAME.encode(),
      'S_START': b'',
      'APPLA0': _png(_apple(), foot=True),
      'PORTA0': _png(_portal(), foot=True),
      'S_END': b'',
      'TX_START': b'',
      **walls,
      'GROUND': _png(_ground()),
      'CEILING': _png(_ceiling()),
      'TX_END': b'',
    }
  )


def _png(pixels: np.ndarray, *, foot: bool = False) -> bytes:
  """A PNG of pixels [H, W, 4] uint8; with `foot`, a sprite on the ground."""
  height, width, _ = pixels.shape

  def chunk(name, data):
    checksum = zlib.crc32(name + data)
    return (
      struct.pack('>I', len(data)) + name + data + struct.pack('>I', checksum)
    )

  rows = b''.join(b'\0' + row.tobytes() for row in pixels)
  shape = struct.pack('>IIBBBBB', width, height, 8, 6, 0, 0, 0)
  offset = chunk(b'grAb', struct.pack('>ii', width // 2, height))
  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', shape)
    + (offset if foot else b'')
    + chunk(b'IDAT', zlib.compress(rows))
    + chunk(b'IEND', b'')
  )


def _opaque(mask, colours):
  """Pixels of the second colour where the mask is true, else of the first."""
  pixels = np.full((*mask.shape, 4), 255, np.uint8)
  pixels[..., :3] = np.where(mask[..., None], colours[1], colours[0])
  return pixels


def _ground():
  y, x = np.mgrid[:_TEXTURE, :_TEXTURE] // (_TEXTURE // 2)
  return _opaque((x + y) % 2 == 0, ((96, 80, 64), (120, 100, 80)))


def _ceiling():
  return np.full((_TEXTURE, _TEXTURE, 4), (150, 190, 235, 255), np.uint8)


def _walls():
  """Textures of the walls of corridors, then of `ROOMS` kinds of rooms."""
  y, x = np.mgrid[:_TEXTURE, :_TEXTURE]
  joint = 32 * (y // 16 % 2)
  masks = [
    (y % 16 > 1) & ((x + joint) % 64 > 1),  # Bricks.
    (y % 32 > 2) & (x % 32 > 2),  # Tiles.
    x // 16 % 2 == 0,  # Upright stripes.
    y // 16 % 2 == 0,  # Level stripes.
    (x // 16 + y // 16) % 2 == 0,  # Checks.
    (x + y) // 16 % 2 == 0,  # Slanted stripes.
    (x % 32 - 16) ** 2 + (y % 32 - 16) ** 2 < 90,  # Dots.
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
  y, x = np.mgrid[:64, :48]
  far = np.hypot((x - 23.5) / 24, (y - 31.5) / 32)
  pixels = _opaque(far < 0.6, ((40, 90, 255), (190, 240, 255)))
  pixels[..., 3] = np.where(far < 1, 255, 0)
  return pixels
