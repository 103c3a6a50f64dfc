"""Records of spaces, and actions in the environment's own units."""

import json

from gymnasium import spaces
import numpy as np
import pytest

from a3c_jax.envs import gym, replayable
from a3c_jax.envs import spaces as spaces_lib


@pytest.mark.parametrize(
  'space',
  [
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(np.float32([-1, -np.inf, 0.1]), np.float32([1, np.inf, 8])),
    spaces.Box(-2.0, 2.0, (1,), np.float64),
    spaces.Box(0, np.iinfo(np.int64).max, (2,), np.int64),
    spaces.Box(0.0, 1.0, (), np.float32),
    spaces.Box(0, 1, (2,), bool),
    spaces.Discrete(5, start=-2),
    spaces.Discrete(2, dtype=np.int32),
  ],
)
def test_a_space_comes_back_from_json(space):
  text = json.dumps(spaces_lib.to_record(space), allow_nan=False)
  back = spaces_lib.from_record(json.loads(text))
  assert back == space
  assert back.dtype == space.dtype


@pytest.mark.parametrize(
  'record', [{}, {'kind': 'Dict', 'dtype': 'int64'}, {'kind': 'Box'}, []]
)
def test_what_is_no_record_of_a_space_is_an_error(record):
  with pytest.raises((ValueError, TypeError, KeyError)):
    spaces_lib.from_record(record)


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
  'of_run',
  [
    spaces_lib.Spaces(spaces.Discrete(3), BOX, BOX),
    spaces_lib.Spaces(BOX, spaces.Discrete(3), BOX),
    spaces_lib.Spaces(BOX, spaces.Discrete(3), spaces.Discrete(5)),
    spaces_lib.Spaces(BOX, BOX, spaces.Box(-1.0, 1.0, (3,), np.float32)),
  ],
)
def test_spaces_that_do_not_belong_together_are_refused(of_run):
  with pytest.raises(ValueError):
    spaces_lib.from_records(spaces_lib.to_records(of_run))


def test_discrete_actions_count_from_the_start_in_the_type_of_the_space():
  to_native = spaces_lib.to_native(spaces.Discrete(3, start=5))
  action = to_native(np.int32(1))
  assert (action, type(action)) == (6, np.int64)
  np.testing.assert_array_equal(to_native(np.int32([0, 2])), [5, 7])


def test_continuous_actions_span_the_box_and_are_clipped():
  space = spaces.Box(np.float32([0, -2]), np.float32([10, 2]))
  actions = spaces_lib.to_native(space)(np.float32([[0, 0.5], [-3, 2.23]]))
  # 0 is the middle; 2.23 times the half width of 2 is clipped to 2.
  np.testing.assert_array_equal(actions, np.float32([[5, 1], [0, 2]]))
  assert actions.dtype == np.float32


def test_the_environments_own_actions_are_known_through_wrappers():
  env = replayable.Recorded(gym.make('Pendulum-v1', num_envs=2)())
  native = spaces_lib.native_action_space(env)
  assert native == spaces.Box(-2.0, 2.0, (1,), np.float32)
  assert env.single_action_space.high == np.inf
  env.close()
