"""Catch: the smallest task on which all algorithms must learn."""

from __future__ import annotations

import dataclasses
import functools

import gymnasium
import numpy as np

from a3c_jax.core import fields
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import gym


@dataclasses.dataclass(frozen=True)
class Options:
  """Size of the board."""

  rows: int = fields.count(
    'Rows of the board. An episode has one step fewer.',
    least=2,
    most=1000,
    default=10,
    source='Osband et al. 2019',
  )
  columns: int = fields.count(
    'Columns of the board.', most=1000, default=5, source='Osband et al. 2019'
  )


class Catch(gymnasium.Env):
  """A ball falls down a board, and a paddle in the last row must catch it.

  Observations are [rows, columns] float32, 1 at the ball and at the paddle.
  Actions: 0 moves left, 1 stays, 2 moves right. The ball reaches the last row
  after `rows - 1` steps, which ends the episode. The reward is then 1 if the
  paddle is there, else -1. With five columns, always staying scores -0.6 on
  average.

  After Osband et al. 2019, arXiv:1908.03568.
  """

  metadata = {'render_modes': ['ansi', 'rgb_array'], 'render_fps': 4}

  def __init__(
    self,
    rows: int = Options.rows,
    columns: int = Options.columns,
    render_mode: str | None = None,
  ):
    self._rows, self._columns = rows, columns
    self.render_mode = render_mode
    self.observation_space = gymnasium.spaces.Box(
      0.0, 1.0, (rows, columns), np.float32
    )
    self.action_space = gymnasium.spaces.Discrete(3)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._ball = (0, int(self.np_random.integers(self._columns)))
    self._paddle = self._columns // 2
    return self._observation(), {}

  def step(self, action):
    self._paddle = int(np.clip(self._paddle + action - 1, 0, self._columns - 1))
    row, column = self._ball
    self._ball = (row + 1, column)
    terminated = row + 1 == self._rows - 1
    reward = 0.0
    if terminated:
      reward = 1.0 if self._paddle == column else -1.0
    return self._observation(), reward, terminated, False, {}

  def render(self):
    if self.render_mode == 'rgb_array':
      pixels = np.kron(255 * self._observation(), np.ones((16, 16)))
      return np.repeat(pixels.astype(np.uint8)[..., None], 3, axis=2)
    board = np.where(self._observation() > 0, 'x', '.')
    return '\n'.join(''.join(row) for row in board)

  def _observation(self):
    board = np.zeros((self._rows, self._columns), np.float32)
    board[self._ball] = 1.0
    board[self._rows - 1, self._paddle] = 1.0
    return board


DOMAIN = domain_lib.Domain(
  name='catch',
  options=Options,
  make=functools.partial(gym.make_own, Catch),
  env_name=lambda options: 'catch',
  defaults=domain_lib.SMALL
  | {'frames': (200_000, 'ours'), 'network': ('mlp', 'ours')},
)
