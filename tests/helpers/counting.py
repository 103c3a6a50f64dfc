"""An environment that shows how many steps it has made."""

import gymnasium

EPISODE = 40  # Steps.


class Counting(gymnasium.Env):
  """Episodes of `EPISODE` steps; a subclass says what they look like."""

  action_space = gymnasium.spaces.Discrete(2)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps = 0
    return self._observe(), {}

  def step(self, action):
    self._steps += 1
    ends = self._steps == EPISODE
    return self._observe(), self._reward(action), ends, False, {}
