"""Segments played in one XLA program are those that are played step by step."""

import gymnasium
import jax
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.acting import actor as actor_lib
from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import rollout
from a3c_jax.algorithms import policy_based, value_based
from a3c_jax.core import stopwatch, types
from a3c_jax.envs import atari, domain, replayable

pytest.importorskip('ale_py')

T_MAX = 5


class Stepwise(gymnasium.vector.VectorWrapper):
  """Has no program of its own."""


def make_learner(algo, num_actions=4):
  torso = networks.MLPTorso(obs_dims=3, hidden=(8,))
  if algo in ('nstep_q', 'one_step_q', 'one_step_sarsa'):
    how = {} if algo == 'nstep_q' else {'acting': 'snapshot'}
    network = networks.QNetwork(torso, num_actions)
    return getattr(value_based, algo)(network, **how)
  core = networks.LSTMCore(cells=8) if algo == 'lstm' else None
  network = networks.ActorCritic(torso, num_actions, core)
  return policy_based.a3c(network, entropy_cost=0.01, value_cost=0.5)


def make_actor(learner, params):
  version = types.Version(params, params, frames=0, updates=0)
  return actor_lib.in_training(learner, lambda: version)


def play(env, learner, *, segments):
  carry = carry_lib.start(env, learner, seed=3, key=jax.random.PRNGKey(4))
  params = learner.init(jax.random.PRNGKey(5), carry.obs)
  actor = make_actor(learner, params)
  clock = stopwatch.Stopwatch()
  episodes = []
  for _ in range(segments):
    played = rollout.collect(
      env,
      actor,
      carry,
      rollout.RolloutSpec(T_MAX, gamma=0.9, reward_clip=1.0),
      epsilon=lambda frames: np.full(env.num_envs, 0.7),
      clock=clock,
    )
    carry = played.carry
    episodes.extend(played.episodes)
    yield carry, played.segment, list(episodes), clock.seconds


def assert_plays_alike(algo, *, num_envs, segments, noops=30, **kwargs):
  """The same in a program and step by step; returns the end of the former."""
  options = atari.Options(game='breakout', noops=noops)
  make_env = atari.make(options, domain.EnvRequest(num_envs=num_envs))
  learner = make_learner(algo)
  one, other = (replayable.Recorded(make_env(), **kwargs) for _ in range(2))
  for found, expected in zip(
    play(one, learner, segments=segments),
    play(Stepwise(other), learner, segments=segments),
    strict=True,
  ):
    jax.tree.map(assert_alike, found[:3], expected[:3])
  jax.tree.map(
    np.testing.assert_array_equal, one.action_log(), other.action_log()
  )
  assert found[3]['playing'] > 0 == expected[3]['playing']
  return one, *found


def assert_alike(found, expected):
  found, expected = np.asarray(found), np.asarray(expected)
  assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
  if found.dtype == np.float32:  # The network's, compiled in another program.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  else:
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  ('algo', 'num_envs'),
  [('a3c', 1), ('lstm', 2), ('nstep_q', 3), ('one_step_q', 2)],
)
def test_segments_cross_lost_lives_and_ends_of_games(algo, num_envs):
  _, _, _, episodes, seconds = assert_plays_alike(
    algo, num_envs=num_envs, segments=120
  )
  assert episodes and any(episode.raw_return for episode in episodes)
  assert seconds['acting'] == seconds['emulator'] == 0


def test_an_action_drawn_on_arrival_is_the_first_of_the_next_program():
  _, carry, segment, episodes, seconds = assert_plays_alike(
    'one_step_sarsa', num_envs=2, segments=120
  )
  np.testing.assert_array_equal(segment.a[-1], carry.action)
  assert episodes
  # Only the first segment, which has no action yet, was step by step.
  assert 0 < seconds['emulator'] < seconds['playing']


def test_new_games_that_start_after_many_no_ops():
  assert assert_plays_alike('a3c', num_envs=4, segments=60, noops=1000)[3]


def test_a_time_limit_is_played_step_by_step(monkeypatch):
  monkeypatch.setattr(atari, 'MAX_FRAMES_PER_EPISODE', 330)
  _, _, _, episodes, seconds = assert_plays_alike(
    'lstm', num_envs=2, segments=60
  )
  # No-ops count towards the limit; an episode that lost its lives is shorter.
  assert max(episode.steps for episode in episodes) in range(76, 84)
  assert seconds['playing'] > 0 and seconds['emulator'] > 0


def test_seeded_resets_fall_into_no_program():
  env, carry, _, episodes, seconds = assert_plays_alike(
    'a3c', num_envs=2, segments=200, reseed_steps=300
  )
  assert len(episodes) > 3 and seconds['emulator'] > 0
  past = env.action_log()
  assert past.seeds.tolist() != [3, 4] and len(past.actions) < 200 * T_MAX
  fresh = replayable.Recorded(
    atari.make(atari.Options(game='breakout'), domain.EnvRequest(num_envs=2))(),
    reseed_steps=300,
  )
  np.testing.assert_array_equal(fresh.replay(past), carry.obs)
  # What decides on a program is restored as well.
  for steps in (1, T_MAX, 150, 299):
    assert bool(fresh.program(steps)) == bool(env.program(steps))


@pytest.mark.parametrize('limit', [40, 41, 42, 43, 44])
def test_no_program_reaches_a_time_limit(monkeypatch, limit):
  monkeypatch.setattr(atari, 'MAX_FRAMES_PER_EPISODE', limit)
  env = atari.make(atari.Options(game='breakout', noops=0))()
  env.reset(seed=1)
  steps = 0
  possible, truncated = [], False
  while not truncated:
    steps += 1
    possible.append(bool(env.program(1)))
    _, _, _, truncated, _ = env.step(np.zeros(1, int))
  assert steps > 5 and possible[-1] is False and all(possible[:-2])


def test_no_program_reaches_a_seeded_reset():
  make_env = atari.make(atari.Options(game='breakout'))
  env = replayable.Recorded(make_env(), reseed_steps=10)
  env.reset(seed=1)
  for played in range(3):
    assert env.program(9 - played) and not env.program(10 - played)
    env.step(np.zeros(1, int))


def test_wrappers_of_the_emulator_are_not_left_out():
  env = atari.make(atari.Options(game='breakout'))()
  env.reset(seed=1)
  assert env.program(T_MAX)
  assert replayable.Recorded(env).program(T_MAX)
  assert replayable.Recorded(Stepwise(env)).program(T_MAX) is None


@pytest.mark.parametrize(
  ('algo', 'calls'),
  # With an action on arrival, that of the last observation too.
  [('a3c', T_MAX), ('one_step_sarsa', T_MAX + 1)],
)
def test_a_program_is_compiled_beforehand_without_playing(caplog, algo, calls):
  env = replayable.Recorded(atari.make(atari.Options(game='breakout'))())
  learner = make_learner(algo)
  carry = carry_lib.start(env, learner, seed=3, key=jax.random.PRNGKey(4))
  params = learner.init(jax.random.PRNGKey(5), carry.obs)
  plain, traced = learner.act_and_keep, []

  def act_and_keep(*args):
    if isinstance(args[2], jax.core.Tracer):
      traced.append(args)
    return plain(*args)

  learner = learner._replace(act_and_keep=act_and_keep)
  actor = make_actor(learner, params)
  compile_for = lambda steps: rollout.compile_for(env, actor, carry, steps)
  compiled = lambda: caplog.text.count('XLA compilation of jit(_program)')
  with jax.log_compiles():
    compile_for(1000)
    assert not traced  # So long a program would take minutes.
    compile_for(T_MAX)
    assert len(traced) == calls and len(env.action_log().actions) == 0
    assert compiled() == 1
    for _ in play(env, learner, segments=3):
      assert len(traced) == calls
    assert compiled() == 1
  assert len(env.action_log().actions) == 3 * T_MAX
