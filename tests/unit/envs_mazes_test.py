"""Random mazes, and the archives that the engine reads them from."""

import re
import struct
import zlib

from marks import needs_labyrinth
import numpy as np
import pytest

from a3c_jax.envs.labyrinth import mazes, wads

# Two open cells side by side.
SMALL = mazes.Maze(
  walls=np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool),
  textures=np.array([[0, 0, 0, 0], [0, 3, 5, 0], [0, 0, 0, 0]]),
  portal=(1, 1),
  apples=((1, 2),),
  free=((1, 2),),
)


def generate(seed, size=9, apples=5, rooms=True):
  rng = np.random.default_rng(seed)
  return mazes.generate(rng, size=size, apples=apples, rooms=rooms)


def lumps(wad):
  """Names and contents of an archive."""
  kind, count, place = struct.unpack('<4sii', wad[:12])
  assert kind == b'PWAD'
  assert len(wad) == place + 16 * count
  entries = struct.iter_unpack('<ii8s', wad[place:])
  return {
    name.rstrip(b'\0').decode(): wad[start : start + length]
    for start, length, name in entries
  }


def reached(walls, start):
  """The open cells that can be reached from one."""
  seen, ahead = {start}, [start]
  while ahead:
    row, column = ahead.pop()
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
      cell = row + down, column + right
      if not walls[cell] and cell not in seen:
        seen.add(cell)
        ahead.append(cell)
  return seen


@needs_labyrinth
@pytest.mark.parametrize('size', [5, 7, 9, 21])
def test_mazes(size):
  for seed in range(20):
    maze = generate(seed, size)
    assert maze.walls.shape == (size, size)
    edge = [maze.walls[i] for i in (0, -1)] + [
      maze.walls[:, i] for i in (0, -1)
    ]
    assert np.all(edge)
    cells = [maze.portal, *maze.apples, *maze.free]
    assert len(maze.apples) == 5
    # Each open cell once, and none that cannot be reached.
    assert len(set(cells)) == len(cells) == (~maze.walls).sum()
    assert set(cells) == reached(maze.walls, maze.portal)
    assert not maze.textures[maze.walls].any()


@needs_labyrinth
def test_mazes_have_dead_ends():
  ends = 0
  for seed in range(5):
    walls = generate(seed, 15).walls
    for row, column in np.argwhere(~walls):
      beside = walls[
        [row - 1, row + 1, row, row], [column, column, column - 1, column + 1]
      ]
      ends += beside.sum() == 3
  assert ends > 3  # labmaze fills all of them by default.


@needs_labyrinth
def test_mazes_come_from_their_generator_alone():
  one, same, other = generate(1), generate(1), generate(2)
  np.testing.assert_array_equal(one.walls, same.walls)
  np.testing.assert_array_equal(one.textures, same.textures)
  assert one[2:] == same[2:]
  assert (one.walls != other.walls).any()


@needs_labyrinth
def test_a_maze_without_room_for_the_agent_is_none():
  assert len(generate(1, size=5, apples=7).free) == 1
  assert generate(1, size=5, apples=8) is None


@needs_labyrinth
def test_walls_of_rooms_differ_unless_they_are_plain():
  kinds = set(generate(3, size=21).textures.flat)
  assert len(kinds) > 3 and kinds <= set(range(mazes.ROOMS + 1))
  assert set(generate(3, size=21, rooms=False).textures.flat) == {0}


def test_places_on_the_map():
  assert mazes.centre((1, 2)) == (240, -144)
  for cell in ((0, 0), (1, 2), (100, 7)):
    x, y = mazes.centre(cell)
    for dx, dy in ((-47.9, 47.9), (0.0, 0.0), (47.9, -47.9)):
      assert mazes.cell_at(x + dx, y + dy) == cell


def test_a_map_has_its_walls_around_the_open_cells():
  text = lumps(wads.level(SMALL, (1, 2), 3))['TEXTMAP'].decode()
  vertices = [
    (float(x), float(y))
    for x, y in re.findall(r'vertex { x = (\S+); y = (\S+); }', text)
  ]
  lines = re.findall(r'v1 = (\d+); v2 = (\d+); sidefront = (\d+)', text)
  assert len(lines) == 6
  textures = re.findall(r'texturemiddle = "WALL(\d)"', text)
  middles = {'3': (144, -144), '5': (240, -144)}
  for begin, end, side in lines:
    (x, y), (to_x, to_y) = vertices[int(begin)], vertices[int(end)]
    assert abs(to_x - x) + abs(to_y - y) == 96
    # The middle of the open cell is 48 to the right of the line.
    at_x, at_y = middles[textures[int(side)]]
    cross = (to_x - x) * (at_y - y) - (to_y - y) * (at_x - x)
    assert cross == -96 * 48
  assert textures.count('3') == textures.count('5') == 3


def test_what_stands_where_on_a_map():
  text = lumps(wads.level(SMALL, (1, 2), 3))['TEXTMAP'].decode()
  things = re.findall(
    r'thing { x = (\S+); y = (\S+); angle = (\d+); type = (\d+)', text
  )
  assert set(things) == {
    ('144.0', '-144.0', '0', '15002'),
    ('240.0', '-144.0', '0', '15001'),
    ('240.0', '-144.0', '135', '1'),
  }


def test_images_are_png_of_textures_that_the_engine_can_repeat():
  found = lumps(wads.resources())
  walls = [name for name in found if name.startswith('WALL')]
  assert len(walls) == mazes.ROOMS + 1
  images = set()
  for name in (*walls, 'GROUND', 'CEILING', 'APPLA0', 'PORTA0'):
    data = found[name]
    assert data.startswith(b'\x89PNG\r\n\x1a\n')
    place, chunks = 8, {}
    while place < len(data):
      length, kind = struct.unpack('>I4s', data[place : place + 8])
      body = data[place + 8 : place + 8 + length]
      (checksum,) = struct.unpack_from('>I', data, place + 8 + length)
      assert checksum == zlib.crc32(kind + body)
      chunks[kind] = body
      place += length + 12
    width, height = struct.unpack_from('>II', chunks[b'IHDR'])
    rows = zlib.decompress(chunks[b'IDAT'])
    assert len(rows) == height * (1 + 4 * width)
    images.add(rows)
    if b'grAb' in chunks:  # It stands on the ground, in the middle.
      assert struct.unpack('>ii', chunks[b'grAb']) == (width // 2, height)
    else:  # With another height, some pixels would be those of other memory.
      assert (width, height) == (64, 64)
  assert len(images) == len(walls) + 4
