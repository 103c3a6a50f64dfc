"""However play is stopped and replayed, it continues as if never stopped."""

import contextlib
import itertools

import gymnasium
from gymnasium.vector import AutoresetMode
from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np

from a3c_jax.core import types
from a3c_jax.envs import replayable

ACTIONS = 3


class Dice(gymnasium.Env):
  """Observes a sum over all since its last seeded reset; a die ends episodes.

  An action throws that many dice more, so the end depends on it.
  """

  observation_space = gymnasium.spaces.Box(0, 2**40, (1,), np.int64)
  action_space = gymnasium.spaces.Discrete(ACTIONS)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    if seed is not None:
      self._sum = seed
    return self._observe(7), {}

  def step(self, action):
    self.np_random.random(action)
    die = self.np_random.integers(6)
    return self._observe(action), 1.0, die == 0, die == 1, {}

  def _observe(self, number):
    self._sum = (31 * self._sum + number + self.np_random.integers(100)) % 2**40
    return np.array([self._sum])


class ManyDice(gymnasium.vector.SyncVectorEnv):
  """K environments, whose program steps them in `played`."""

  def __init__(self, num_envs):
    super().__init__([Dice] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)

  def program(self, steps):
    return types.EnvProgram(step=None, state=None)

  def played(self, actions, state):
    for action in actions:
      self.step(action)


def alone(seed, actions):
  """What one environment observes after a seeded reset and these actions."""
  env = Dice()
  obs, _ = env.reset(seed=seed)
  for action in actions:
    obs, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
      obs, _ = env.reset()
  return obs


def assert_same_log(log, other):
  for part, another in zip(log, other, strict=True):
    np.testing.assert_array_equal(part, another)


def assert_log_leads_to(obs, log):
  """Checks that each environment alone observes the same after its log."""
  for k, observed in enumerate(obs):
    actions = log.actions[log.starts[k] :, k]
    np.testing.assert_array_equal(alone(int(log.seeds[k]), actions), observed)


def step_checked(env, action, reseed_steps):
  """Steps, and checks that the environments due were seeded, and no others."""
  before = env.action_log()
  obs, _, terminated, truncated, _ = env.step(action)
  log = env.action_log()
  for k, ended in enumerate(terminated | truncated):
    since_seeded = len(before.actions) + 1 - before.starts[k]
    due = ended and since_seeded >= reseed_steps
    seed = int(before.seeds[k])
    assert log.seeds[k] == (replayable.next_seed(seed) if due else seed)
    assert len(log.actions) - log.starts[k] == (0 if due else since_seeded)
  assert log.starts.min() == 0  # No action is logged that no environment needs.
  return obs


class Interrupted(Exception):
  pass


def replay(env, log, interrupt_at):
  """Replays twice; the first replay is interrupted before a step."""
  steps = itertools.count()

  def interrupt():
    if next(steps) == interrupt_at:
      raise Interrupted

  with contextlib.suppress(Interrupted):
    env.replay(log, interrupt)
  steps = itertools.count(interrupt_at + 1)
  obs = env.replay(log, interrupt)
  assert next(steps) == interrupt_at + 1 + len(log.actions) + 1
  return obs


def piece(num_envs):
  """An event, a number for it, and the actions [N, K] that follow."""
  action = st.lists(
    st.integers(0, ACTIONS - 1), min_size=num_envs, max_size=num_envs
  )
  return st.tuples(
    st.sampled_from(['step', 'replay', 'replay', 'program', 'reset']),
    st.integers(0, 40),
    st.lists(action, max_size=25),
  )


PLAYS = st.integers(1, 3).flatmap(
  lambda num_envs: st.tuples(
    st.just(num_envs),
    st.sampled_from([1, 2, 3, 8, 15]),
    st.lists(piece(num_envs), min_size=1, max_size=5),
  )
)
# All actions are logged, which are more than the first array can hold.
LONG = (1, 1000, [('step', 0, [[1]] * 70), ('replay', 9, [[2]] * 70)])


@settings(max_examples=200)
@given(PLAYS)
@example(LONG)
def test_a_replay_continues_as_the_original(play):
  num_envs, reseed_steps, pieces = play

  def make():
    return replayable.Recorded(ManyDice(num_envs), reseed_steps=reseed_steps)

  never_stopped, env = make(), make()
  never_stopped.reset(seed=5)
  obs, _ = env.reset(seed=5)
  kept = []
  for what, number, actions in pieces:
    actions = np.array(actions, np.int64).reshape(-1, num_envs)
    if what == 'reset':
      never_stopped.reset(seed=number)
      obs, _ = env.reset(seed=number)
    elif what == 'replay':
      log = env.action_log()
      kept.append((log, [part.copy() for part in log]))
      env = make()
      np.testing.assert_array_equal(replay(env, log, number), obs)
    in_program = what == 'program' and env.program(len(actions))
    if in_program:
      env.played(actions, None)
    for action in actions:
      obs = step_checked(never_stopped, action, reseed_steps)
      if not in_program:
        np.testing.assert_array_equal(env.step(action)[0], obs)
    assert_same_log(env.action_log(), never_stopped.action_log())
    assert_log_leads_to(obs, env.action_log())
  for log, copies in kept:  # A checkpoint may still be writing them.
    assert_same_log(log, copies)


@given(PLAYS)
def test_a_program_is_given_unless_an_environment_may_be_due_in_it(play):
  num_envs, reseed_steps, pieces = play
  env = replayable.Recorded(ManyDice(num_envs), reseed_steps=reseed_steps)
  env.reset(seed=5)
  for _, steps, actions in pieces:
    for action in actions:
      env.step(np.array(action))
    log = env.action_log()
    longest = max(len(log.actions) - log.starts) + steps
    assert (env.program(steps) is None) == (longest >= reseed_steps)
