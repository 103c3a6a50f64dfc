"""A scripted agent that knows the maze: an upper scale for Labyrinth."""

from __future__ import annotations

from collections import deque
import math

from a3c_jax.envs.labyrinth import foraging, mazes

_WIDE = 60.0  # Degrees; beyond, it turns without going ahead.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def act(env: foraging.Labyrinth) -> int:
  """The next action on the way to what pays most per cell of the way to it.

  This is no optimum: it looks no further than to one apple or the portal.
  """
  before = _before(env)
  goals = [(foraging.PORTAL_REWARD, env.maze.portal)]
  goals += [(foraging.APPLE_REWARD, apple) for apple in env.apples_left]
  paths = [(reward, _path(before, cell)) for reward, cell in goals]
  _, best = max(paths, key=lambda choice: choice[0] / len(choice[1]))
  return _towards(env, mazes.centre(best[0]))


def go_to(env: foraging.Labyrinth, cell: mazes.Cell) -> int:
  """The next action on the shortest path to the middle of a cell."""
  return _towards(env, mazes.centre(_path(_before(env), cell)[0]))


def _before(env):
  """For each open cell, the one before it on the way from the agent."""
  here = mazes.cell_at(env.x, env.y)
  before = {here: here}
  ahead = deque([here])
  while ahead:
    row, column = cell = ahead.popleft()
    for down, right in _STEPS:
      other = row + down, column + right
      if not env.maze.walls[other] and other not in before:
        before[other] = cell
        ahead.append(other)
  return before


def _path(before, cell):
  """Cells from the one after the agent's to this one; at least this one."""
  path = deque([cell])
  while before[path[0]] != path[0]:
    path.appendleft(before[path[0]])
  if len(path) > 1:
    path.popleft()
  return path


def _towards(env, place):
  """Turns there, and goes ahead as soon as it looks about that way."""
  x, y = place
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
