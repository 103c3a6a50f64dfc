"""A scripted agent that knows the maze: the upper scale of Labyrinth's scores."""

from __future__ import annotations

from collections import deque
import math

from a3c_jax.envs import labyrinth, mazes

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def act(env: labyrinth.Labyrinth) -> int:
  """The next action on the way to what pays most per cell of the way to it.

  It turns to the middle of the next cell on the shortest path and goes there.
  This is no optimum: it looks no further than to one apple or the portal.
  """
  _, path = max(
    ((reward / len(path), path) for reward, path in _paths(env)),
    key=lambda choice: choice[0],
  )
  return _towards(env, mazes.centre(path[0]))


def _paths(env):
  """Reward, and cells from the next one on, of all there is to be had."""
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
  goals = [(labyrinth.PORTAL_REWARD, env.maze.portal)]
  goals += [(labyrinth.APPLE_REWARD, apple) for apple in env.apples_left]
  for reward, cell in goals:
    path = [cell]
    while before[cell] != cell:
      cell = before[cell]
      path.insert(0, cell)
    yield reward, path[1:] or path


def _towards(env, place):
  x, y = place
  heading = math.degrees(math.atan2(y - env.y, x - env.x))
  turn = (heading - env.angle + 180) % 360 - 180  # Positive is to the left.
  side = 'left' if turn > 0 else 'right'
  step = labyrinth.TURN * env.action_repeat
  if abs(turn) <= step / 2:
    name = 'forward'
  elif abs(turn) <= 60:
    name = f'forward, turn {side}'
  else:
    name = f'turn {side}'
  return labyrinth.ACTIONS.index(name)
