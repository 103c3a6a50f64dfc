"""A scripted agent that knows the maze: a strong baseline for Labyrinth."""

from __future__ import annotations

from collections import deque
import math

from a3c_jax.envs.labyrinth import foraging, mazes

_WIDE = 60.0  # Degrees; for a larger angle, it turns without moving.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))

# For each open cell, the one before it on a shortest path from the agent.
Paths = dict[mazes.Cell, mazes.Cell]


def act(env: foraging.Labyrinth) -> int:
  """The next action towards the goal with the most reward per cell of its path.

  Goals are the apples and the portal. This is not optimal: it plans for one
  goal only.
  """
  before = _search(env)
  goals = [(foraging.PORTAL_REWARD, env.maze.portal)]
  goals += [(foraging.APPLE_REWARD, apple) for apple in env.apples_left]
  paths = [(reward, _path(before, cell)) for reward, cell in goals]
  _, best = max(paths, key=lambda choice: choice[0] / len(choice[1]))
  return _towards(env, mazes.centre(best[0]))


def go_to(env: foraging.Labyrinth, cell: mazes.Cell) -> int:
  """The next action on a shortest path to the middle of a cell."""
  return _towards(env, mazes.centre(_path(_search(env), cell)[0]))


def _search(env: foraging.Labyrinth) -> Paths:
  """Shortest paths from the agent to all cells, by breadth-first search."""
  here = mazes.cell_at(env.x, env.y)
  before = {here: here}
  queue = deque([here])
  while queue:
    row, column = cell = queue.popleft()
    for down, right in _STEPS:
      other = row + down, column + right
      if not env.maze.walls[other] and other not in before:
        before[other] = cell
        queue.append(other)
  return before


def _path(before: Paths, cell: mazes.Cell) -> deque[mazes.Cell]:
  """The cells after the agent's up to this one; at least this one."""
  path = deque([cell])
  while before[path[0]] != path[0]:
    path.appendleft(before[path[0]])
  if len(path) > 1:
    path.popleft()
  return path


def _towards(env: foraging.Labyrinth, point: tuple[int, int]) -> int:
  """Turns to a point, and moves forward once it roughly faces it."""
  x, y = point
  heading = math.degrees(math.atan2(y - env.y, x - env.x))
  turn = (heading - env.angle + 180) % 360 - 180  # Positive is to the left.
  side = 'left' if turn > 0 else 'right'
  step = foraging.TURN * env.action_repeat
  if abs(turn) <= step / 2:
    name = 'forward'
  elif abs(turn) <= _WIDE:
    name = f'forward, turn {side}'
  else:
    name = f'turn {side}'
  return foraging.ACTIONS.index(name)
