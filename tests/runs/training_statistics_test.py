"""Normalised observations and scaled rewards, as the learner gets them."""

import functools

from catch_runs import run
import counting
import gymnasium
import jax
import numpy as np
import pytest

from a3c_jax.acting import rollout
from a3c_jax.envs import gym
from a3c_jax.runs import loading, workdir
from a3c_jax.runs import policy as policy_lib
from a3c_jax.settings import build


class Far(counting.Counting):
  """Observations 50, 52, 50, 52, … and rewards of 3."""

  def __init__(self, dtype=np.float32):
    self.observation_space = gymnasium.spaces.Box(0, 99, (1,), dtype)

  def _reward(self, action):
    return 3.0

  def _observe(self):
    space = self.observation_space
    return np.full(space.shape, 50 + 2 * (self._steps % 2), space.dtype)


def collected(workdir, monkeypatch, make_env, **given):
  """The segments that the learner was given, and the result."""
  segments = []
  collect = rollout.collect

  def noting(*args, **kwargs):
    played = collect(*args, **kwargs)
    segments.append(played.segment)
    return played

  monkeypatch.setattr(rollout, 'collect', noting)
  return segments, run(
    workdir, gym.make(make_env), frames=60, t_max=10, **given
  )


def test_the_learner_gets_normalised_observations_and_scaled_rewards(
  tmp_path, monkeypatch
):
  segments, result = collected(
    tmp_path,
    monkeypatch,
    Far,
    normalize_obs=True,
    reward_scale=0.5,
    eval_frames=30,
  )
  for segment in segments:
    np.testing.assert_allclose(segment.r_t, 1.5)
  # 50 and 52 are one standard deviation below and above their mean.
  last = segments[-1].obs[:-1, 0, 0]
  np.testing.assert_allclose(np.abs(last), 1.0, atol=0.01)
  # What acts later sees them so too, by the statistics at the end.
  seen = []
  act = lambda params, state, obs: (seen.append(obs), (np.zeros(1), state))[1]
  policy = loading.load(
    tmp_path,
    make_env=gym.make(Far),
    make_learner=lambda env: build.make_learner(
      workdir.read_config(tmp_path), env
    )._replace(greedy=act),
    greedy=True,
  ).learner_policy
  policy(np.array([[50.0], [52.0]]), policy.initial_state())
  np.testing.assert_allclose(seen[0], [[-1.0], [1.0]], atol=0.01)


def test_evaluations_normalise_by_the_statistics_of_the_run(
  tmp_path, monkeypatch
):
  made = []

  class Policy(policy_lib.Policy):
    def __init__(self, learner, version, **kwargs):
      made.append((version.frames, version.statistics))
      super().__init__(learner, version, **kwargs)

  monkeypatch.setattr(policy_lib, 'Policy', Policy)
  _, result = collected(
    tmp_path, monkeypatch, Far, normalize_obs=True, eval_frames=30
  )
  frames, statistics = made[-1]
  assert frames == result.frames
  assert float(statistics.count) == pytest.approx(result.frames, abs=0.01)


def test_bytes_are_normalised_as_floats_are(tmp_path):
  runs = []
  for dtype in (np.uint8, np.float32):
    with pytest.MonkeyPatch.context() as patch:
      folder = tmp_path / np.dtype(dtype).name
      make_env = functools.partial(Far, dtype)
      given = {'normalize_obs': True, 'eval_frames': 30}
      runs.append(collected(folder, patch, make_env, **given))
  (bytes_, one), (floats, other) = runs
  jax.tree.map(np.testing.assert_array_equal, bytes_, floats)
  jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
