"""Random mazes of rooms and corridors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CELL = 96  # Units of the map per cell; the agent is 32 wide.
HEADINGS = 8  # Number of directions in which an agent may start.
_WALL = '*'
ROOMS = 6  # Textures of rooms' walls; corridors have one more.

Cell = tuple[int, int]  # Row, column.


class Maze(NamedTuple):
  """Walls of a maze, and the contents of its cells."""

  walls: np.ndarray  # [size, size] bool
  textures: np.ndarray  # [size, size] int, number of an open cell's texture
  portal: Cell
  apples: tuple[Cell, ...]
  free: tuple[Cell, ...]  # empty open cells


def generate(
  rng: np.random.Generator, *, size: int, apples: int, rooms: bool
) -> Maze | None:
  """A maze of rooms and corridors, all of whose open cells are connected.

  Args:
    rng: draws the maze, and the places of the portal and the apples.
    size: cells per side with the outer walls, odd and at least 5.
    apples: number of apples.
    rooms: whether each room has walls of another texture.

  Returns:
    The maze; None if no cell is left for the agent.
  """
  import labmaze

  layout = labmaze.RandomMaze(
    height=size,
    width=size,
    max_rooms=max(4, (size // 5) ** 2),
    room_min_size=3,
    room_max_size=min(5, size - 2),
    extra_connection_probability=0.05,
    simplify=False,  # Else it would remove dead ends.
    random_seed=int(rng.integers(1, 2**31)),
  )
  walls = np.array(layout.entity_layer) == _WALL
  cells = [(int(row), int(column)) for row, column in np.argwhere(~walls)]
  if len(cells) < apples + 2:
    return None
  cells = [cells[i] for i in rng.permutation(len(cells))]
  textures = np.zeros_like(walls, int)
  if rooms:
    kinds = 1 + rng.permutation(ROOMS)
    letters = np.array(layout.variations_layer)
    for row, column in cells:
      letter = str(letters[row, column])
      if letter.isalpha():
        textures[row, column] = kinds[(ord(letter) - ord('A')) % ROOMS]
  return Maze(
    walls=walls,
    textures=textures,
    portal=cells[0],
    apples=tuple(cells[1 : apples + 1]),
    free=tuple(cells[apples + 1 :]),
  )


def centre(cell: Cell) -> tuple[int, int]:
  """x and y of a cell's middle on the map, where y points up."""
  row, column = cell
  return column * CELL + CELL // 2, -row * CELL - CELL // 2


def cell_at(x: float, y: float) -> Cell:
  """The cell that contains a point of the map."""
  return int(-y // CELL), int(x // CELL)
