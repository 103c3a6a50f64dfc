"""The real emulator, with our flags for episodes and lives."""

import gymnasium
import numpy as np
import pytest

from a3c_jax.core import errors
from a3c_jax.envs import atari, domain

pytest.importorskip('ale_py')

MAX_STEPS = 5000


def make(game='pong', *, envs=1, **options):
  request = domain.EnvRequest(num_envs=envs)
  return atari.make(atari.Options(game=game, **options), request)()


def random_steps(env, seed=0):
  """Endless random play: (obs, reward, terminated, truncated, info)."""
  rng = np.random.default_rng(seed)
  env.reset(seed=seed)
  for _ in range(MAX_STEPS):
    actions = rng.integers(env.single_action_space.n, size=env.num_envs)
    yield env.step(actions)
  raise AssertionError(f'nothing in {MAX_STEPS} steps')


def test_spaces_and_what_a_step_gives():
  env = make('pong', envs=2)
  assert isinstance(env, gymnasium.vector.VectorEnv)
  assert env.num_envs == 2
  assert env.single_observation_space.shape == (4, 84, 84)
  assert env.single_observation_space.dtype == np.uint8
  assert env.single_action_space.n == 6
  assert env.observation_space.shape == (2, 4, 84, 84)
  obs, _ = env.reset(seed=1)
  assert obs.shape == (2, 4, 84, 84) and obs.dtype == np.uint8
  obs, reward, terminated, truncated, info = env.step(np.array([0, 1]))
  assert obs.shape == (2, 4, 84, 84) and obs.dtype == np.uint8
  for array in (reward, terminated, truncated, info['life_loss']):
    assert array.shape == (2,)
  assert terminated.dtype == truncated.dtype == info['life_loss'].dtype == bool
  env.close()


def test_newest_frame_is_last():
  env = make('breakout')
  obs, _ = env.reset(seed=1)
  for action in (1, 3, 3):
    next_obs, *_ = env.step(np.array([action]))
    np.testing.assert_array_equal(next_obs[0, :-1], obs[0, 1:])
    obs = next_obs
  assert np.any(obs[0, -1] != obs[0, 0])
  env.close()


def play_breakout(seed=3, *, sticky):
  """The frames of the same random actions."""
  env = make('breakout', sticky=sticky)
  rng = np.random.default_rng(7)
  frames = [env.reset(seed=seed)[0]]
  for _ in range(150):
    frames.append(env.step(rng.integers(4, size=1))[0])
  env.close()
  return np.stack(frames)


@pytest.mark.parametrize('sticky', [0.0, 0.25])
def test_a_seed_repeats_a_game(sticky):
  first = play_breakout(sticky=sticky)
  np.testing.assert_array_equal(first, play_breakout(sticky=sticky))
  assert np.any(first != play_breakout(5, sticky=sticky))


@pytest.mark.parametrize('emulator_threads', [2, 3])
def test_threads_of_the_emulator_change_nothing(emulator_threads):
  one, several = (
    make('breakout', envs=3, emulator_threads=count)
    for count in (1, emulator_threads)
  )
  rng = np.random.default_rng(3)
  np.testing.assert_array_equal(one.reset(seed=1)[0], several.reset(seed=1)[0])
  for _ in range(200):
    actions = rng.integers(4, size=3)
    for ours, theirs in zip(
      one.step(actions)[:4], several.step(actions)[:4], strict=True
    ):
      np.testing.assert_array_equal(ours, theirs)
  one.close()
  several.close()


def test_sticky_actions_change_the_game():
  assert np.any(play_breakout(sticky=0.0) != play_breakout(sticky=0.9))


@pytest.mark.parametrize('noops', [0, 1, 8])
def test_a_step_is_four_frames_after_the_no_ops(noops):
  starts = set()
  env = make('pong', noops=noops)
  for seed in range(6 * noops + 2):
    _, info = env.reset(seed=seed)
    start = int(info['episode_frame_number'][0])
    starts.add(start)
    _, _, _, _, info = env.step(np.array([0]))
    assert info['episode_frame_number'] == start + 4
  # Whatever the emulator counts before them, they lie between none and all.
  assert max(starts) - min(starts) == noops
  env.close()


def test_breakout_ends_with_its_fifth_life():
  # Five lives: after four losses the game continues, the fifth ends it.
  env = make('breakout')
  for game in range(2):
    losses = 0
    for step in random_steps(env, seed=game):
      obs, _, terminated, truncated, info = step
      assert not truncated[0]
      losses += info['life_loss'][0]
      if terminated[0]:
        break
      assert 'final_obs' not in info or info['life_loss'][0]
    assert losses == 4
    assert not info['life_loss'][0]
    final = info['final_obs'][0]
    assert final.any()
    assert np.any(final != obs[0])
    assert info['episode_frame_number'] <= 30
  env.close()


def test_a_game_that_ends_soon_after_many_no_ops_is_no_lost_life():
  # With no-ops up to 1,000, the game of environment 0 ends at its frame 590.
  # The next one starts at 708.
  env = make('breakout', envs=4, noops=1000)
  lives = np.full(4, 5)
  ended, lost = [], []
  for _, (*_, terminated, truncated, info) in zip(
    range(400), random_steps(env, seed=3), strict=False
  ):
    assert not truncated.any()
    more, fewer = info['lives'] > lives, info['lives'] < lives
    np.testing.assert_array_equal(terminated, more)
    np.testing.assert_array_equal(info['life_loss'], fewer)
    lives = info['lives'].copy()
    ended.append(terminated)
    lost.append(fewer)
  assert np.sum(ended, axis=0).min() > 0
  assert np.sum(lost) >= 4 * np.sum(ended)
  env.close()


def test_environments_end_each_for_itself():
  env = make('breakout', envs=2)
  losses, ends = np.zeros(2, int), np.zeros(2, int)
  for _, _, terminated, _, info in random_steps(env, seed=1):
    assert not np.any(terminated & info['life_loss'])
    losses += info['life_loss']
    for k in np.flatnonzero(terminated):
      assert losses[k] == 4
      losses[k] = 0
      assert info['final_obs'][k].any()
    ends += terminated
    if ends.all() and ends.sum() > 3:
      break
  env.close()


def test_no_life_loss_where_it_does_not_count():
  env = make('breakout', life_loss_terminal=False)
  for _, _, terminated, _, info in random_steps(env):
    assert not info['life_loss'].any()
    if terminated[0]:
      break
  env.close()


def test_life_loss_changes_nothing_in_the_game():
  with_marks = random_steps(make('breakout', life_loss_terminal=True))
  without = random_steps(make('breakout', life_loss_terminal=False))
  for one, other in zip(with_marks, without, strict=True):
    for left, right in zip(one[:4], other[:4], strict=True):
      np.testing.assert_array_equal(left, right)
    if one[2][0]:
      break


def test_game_without_lives_ends_with_a_point_too_many():
  env = make('pong')
  total = 0.0
  for _, reward, terminated, _, info in random_steps(env):
    assert not info['life_loss'][0]
    total += reward[0]
    if terminated[0]:
      break
  assert -21 <= total <= -10  # Random play loses 21 points.
  env.close()


def test_rewards_are_raw():
  env = make('space_invaders')
  for _, reward, *_ in random_steps(env):
    if reward[0]:
      break
  # An invader scores 5 to 30 points.
  assert reward[0] in (5, 10, 15, 20, 25, 30)
  env.close()


def test_time_limit_truncates_and_keeps_the_final_observation(monkeypatch):
  monkeypatch.setattr(atari, 'MAX_FRAMES_PER_EPISODE', 200)
  env = make('pong')
  cuts = 0
  steps = 0
  for obs, _, terminated, truncated, info in random_steps(env):
    steps += 1
    assert not terminated[0] and not info['life_loss'][0]
    if truncated[0]:
      cuts += 1
      assert info['final_obs'][0].any()
      assert np.any(info['final_obs'][0] != obs[0])
      if cuts == 2:
        break
  # 200 frames are 50 steps, less the no-ops at the start.
  assert 2 * 42 <= steps <= 2 * 50
  env.close()


def test_full_action_space():
  env = make('breakout', full_action_space=True)
  assert env.single_action_space.n == 18
  env.reset(seed=1)
  env.step(np.array([17]))
  env.close()
  env = make('breakout')
  assert env.single_action_space.n == 4
  env.close()


def test_the_list_of_games():
  names = atari.games()
  assert len(names) == 104
  assert names == sorted(set(names))
  assert not set(names) & set(atari.UNPLAYABLE)
  for game in ('pong', 'breakout', 'space_invaders', 'montezuma_revenge'):
    assert game in names


@pytest.mark.parametrize('game', ['alien', 'video_pinball', 'frostbite'])
def test_some_more_games_can_be_played(game):
  env = make(game)
  env.reset(seed=1)
  obs, *_ = env.step(np.array([0]))
  assert obs.any()
  env.close()


@pytest.mark.parametrize(
  'options, hints',
  [
    ({'game': 'pnog'}, ['--game=pnog', 'did you mean', 'pong']),
    ({'game': 'Pong'}, ['--game=Pong', 'pong']),
    ({'game': 'spaceinvaders'}, ['space_invaders']),
    ({'game': 'ALE/Breakout-v5'}, ['--game=ALE/Breakout-v5']),
    ({'game': '§§§'}, ['--game=§§§', 'adventure, air_raid']),
    ({'game': ''}, ['--game=', 'adventure, air_raid']),
    *[
      ({'game': game}, [f'--game={game}', 'two players'])
      for game in atari.UNPLAYABLE
    ],
    ({'sticky': 1.0}, ['--sticky=1.0', '< 1']),
    ({'sticky': -0.1}, ['--sticky=-0.1']),
    ({'sticky': float('nan')}, ['--sticky=nan']),
  ],
)
def test_what_cannot_be_played_is_refused_in_one_line(options, hints):
  with pytest.raises(errors.UsageError) as error:
    atari.make(atari.Options(**options))
  (line,) = str(error.value).splitlines()
  for hint in hints:
    assert hint in line


@pytest.mark.parametrize('protocol', ['noop30', 'sticky'])
def test_the_frame_is_that_of_the_game_that_is_played(protocol):
  options = atari.for_evaluation(atari.Options(game='breakout'), protocol)
  plain = atari.make(options)()
  rendered = atari.make(options, domain.EnvRequest(render=True))()
  rng = np.random.default_rng(0)
  for env in (plain, rendered):
    assert env.metadata['render_fps'] == 15
  np.testing.assert_array_equal(
    plain.reset(seed=5)[0], rendered.reset(seed=5)[0]
  )
  for _ in range(300):
    actions = rng.integers(4, size=1)
    obs, *outcome, _ = plain.step(actions)
    rendered_obs, *rendered_outcome, _ = rendered.step(actions)
    np.testing.assert_array_equal(obs, rendered_obs)
    assert outcome == rendered_outcome
    (frame,) = rendered.render()
    assert frame.shape == (210, 160, 3) and frame.dtype == np.uint8
    assert np.ptp(frame, axis=2).any()  # In colour.
    # Luminance in boxes of equal size stands for the emulator's own.
    small = frame.mean(axis=2).reshape(21, 10, 16, 10).mean(axis=(1, 3))
    seen = obs[0, -1].reshape(21, 4, 84).mean(axis=1)
    assert np.corrcoef(small.mean(axis=1), seen.mean(axis=1))[0, 1] > 0.95
  plain.close()
  rendered.close()


def test_a_frame_of_another_game_is_not_shown():
  options = atari.for_evaluation(atari.Options(game='pong'), 'noop30')
  env = atari.make(options, domain.EnvRequest(render=True))()
  env.reset(seed=1)
  for _ in range(150):
    env._twin.step(np.array([0]))  # The twin runs ahead.
  with pytest.raises(RuntimeError, match='not the one that is played'):
    for _ in range(500):
      env.step(np.array([0]))
  env.close()


def test_sticky_evaluation_begins_without_no_ops():
  options = atari.for_evaluation(atari.Options(game='pong', noops=5), 'sticky')
  assert (options.noops, options.sticky) == (0, 0.25)
  assert not options.life_loss_terminal
