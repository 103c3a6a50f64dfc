"""What crosses between the processes of a cluster arrives as it was."""

import gymnasium
from gymnasium import spaces
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remotes import crossed
from stores import assert_same
from transitions import Worker

from a3c_jax.acting import normalization
from a3c_jax.acting.carry import Carry
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, events, threads
from a3c_jax.envs import replayable
from a3c_jax.optim import factored
from a3c_jax.parameters.store import Contribution, Played, Replayed
from a3c_jax.runtimes.cluster import wire

MEGABYTE = 2**20


def state_of(log, number=0.0):
  """A worker's state, its carry as acting leaves it."""
  carry = Carry(
    obs=np.full((1, 3), number, np.float32),
    is_first=np.zeros(1, bool),
    action=None,
    state=(jnp.full((1, 2), number),),
    key=jax.random.PRNGKey(int(number)),
    episode_return=np.zeros(1),
    clipped_return=np.zeros(1),
    episode_steps=np.zeros(1, np.int64),
  )
  return WorkerState(carry, log, minibatches_due=int(number))


def log_of(actions):
  return replayable.ActionLog(
    np.array([7]), np.array([0]), np.arange(actions).reshape(-1, 1)
  )


def contribution_of(log, *, worker=0, steps=2, grads=None, number=1.0):
  """A contribution of which every field has a value."""
  transitions = Worker(np.random.default_rng(0), num_envs=1, stack=1).segment(3)
  played = Played(
    worker,
    state_of(log, number),
    np.arange(steps),
    (events.EpisodeEnded(1.0, 2.0, 3), events.Incident('env_restarts', 'x')),
    normalization.of(np.ones((2, 3))),
    transitions,
  )
  return Contribution(
    grads,
    frames=8,
    read_version=5,
    played=(played,),
    events=(events.LearningStatistics(np.ones(2, np.float32)),),
    optimizer=worker,
    rate_scale=0.5,
    replayed=(Replayed(worker, np.ones((2, 2), np.int64), np.ones(2)),),
    outliers=1,
  )


def gradients(size=3):
  return {'params': {'w': jnp.arange(6.0).reshape(3, 2), 'b': jnp.ones(size)}}


def test_a_contribution_arrives_as_it_was():
  given = contribution_of(log_of(5), grads=gradients())
  arrived = wire.unpacked(crossed(wire.packed(given, {})), {})
  assert_same(arrived, wire.to_numpy(given))
  types_ = [[type(x) for x in each.events] for each in (given, arrived)]
  assert types_[0] == types_[1]


def test_only_gradients_are_views_of_the_memory_that_arrived():
  message = crossed(
    wire.packed(contribution_of(log_of(5), grads=gradients()), {})
  )
  states = {}
  arrived = wire.unpacked(message, states)
  came = [x for x in jax.tree.leaves(message) if isinstance(x, np.ndarray)]
  assert not any(x.flags.writeable for x in came)
  kept = jax.tree.leaves((arrived._replace(grads=None), states))
  for each in kept:
    if isinstance(each, np.ndarray):
      assert not any(np.shares_memory(each, x) for x in came)
  for each in jax.tree.leaves(arrived.grads):
    assert any(np.shares_memory(each, x) for x in came)


def test_without_a_gradient_none_arrives():
  given = contribution_of(log_of(5))
  assert wire.unpacked(crossed(wire.packed(given, {})), {}).grads is None


@pytest.mark.parametrize(
  ('shape', 'parts'),
  [
    ((MEGABYTE // 4,), 2),
    ((MEGABYTE // 4 - 1024,), 1),  # The largest that crosses as it is.
    ((700, 1000), 3),
    ((5, 150_000), 5),  # Rows of which one fits, but not two.
    ((3, MEGABYTE), 1),  # Rows that do not fit.
    ((0, 5), 1),
    ((), 1),
  ],
)
def test_large_arrays_cross_in_parts(shape, parts):
  array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  sent = wire.gradients({'w': array})
  found = jax.tree.leaves(sent)
  assert len(found) == parts
  if parts > 1:
    assert all(each.nbytes < MEGABYTE for each in found)
  assert wire.num_bytes(sent) == array.nbytes
  arrived = wire.whole(crossed(sent))
  assert_same(arrived, {'w': array})
  if parts > 1:  # JAX uses it in place.
    assert arrived['w'].ctypes.data % 64 == 0


def test_factored_gradients_cross_as_factors():
  outer = factored._Outer(jnp.ones((2, 600)), jnp.ones((2, 300_000)))
  given = factored.Factored({'params': {'w': outer, 'b': jnp.ones(3)}})
  sent = wire.gradients(given)
  numbers = 2 * 600 + 2 * 300_000 + 3
  assert wire.num_bytes(sent) == 4 * numbers
  arrived = wire.whole(crossed(sent))
  assert isinstance(arrived, factored.Factored)
  assert_same(arrived.tree, wire.to_numpy(given.tree))
  assert isinstance(arrived.tree['params']['w'], factored._Outer)


def test_bytes_are_those_of_all_arrays():
  given = wire.packed(
    contribution_of(log_of(5))._replace(
      grads=gradients(), played=(), events=(), replayed=()
    ),
    {},
  )
  assert wire.num_bytes(given) == 4 * (6 + 3)
  assert wire.num_bytes(None) == 0


@pytest.mark.parametrize('size', [3, MEGABYTE])
def test_parameters_arrive_as_arrays_of_jax(size):
  params = gradients(size)
  leaves = crossed(wire.leaves_of(params))
  arrived = wire.params_of(leaves, jax.tree.structure(params))
  assert_same(arrived, params)
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(arrived))


def test_a_second_log_crosses_as_its_tail():
  sent, states = {}, {}
  sizes = []
  for actions in (1000, 1002, 1004):
    message = wire.packed(contribution_of(log_of(actions)), sent)
    sizes.append(len(message.played[0].worker_state.action_log.actions))
    arrived = wire.unpacked(crossed(message), states)
    log = arrived.played[0].worker_state.action_log
    assert_same(log, log_of(actions))
  assert sizes == [1000, 2, 2]


def test_each_worker_has_a_log_of_its_own():
  sent, states = {}, {}
  for worker, actions in ((0, 10), (1, 20), (0, 12), (1, 22)):
    message = wire.packed(contribution_of(log_of(actions), worker=worker), sent)
    wire.unpacked(crossed(message), states)
    assert_same(states[worker].action_log, log_of(actions))


@pytest.mark.parametrize('before', [None, 9, 11])
def test_a_tail_that_does_not_continue_the_log_is_refused(before):
  states = {} if before is None else {0: state_of(log_of(before))}
  message = wire.packed(contribution_of(log_of(12)), {0: 10})
  with pytest.raises(ValueError, match='does not continue'):
    wire.unpacked(crossed(message), states)


class Game(gymnasium.vector.VectorEnv):
  """Two environments whose episodes end when the test says so."""

  num_envs = 2
  single_observation_space = observation_space = spaces.Box(0, 1, (2,))
  single_action_space = spaces.Discrete(100)
  action_space = spaces.MultiDiscrete([100, 100])

  def __init__(self):
    self.ends = np.zeros(2, bool)

  def reset(self, *, seed=None, options=None):
    return np.zeros(2), {}

  def step(self, actions):
    none = np.zeros(2)
    return none, none, self.ends, np.zeros(2, bool), {}


ends = st.tuples(st.booleans(), st.booleans())


@hypothesis.given(
  st.lists(
    st.tuples(
      # Plays, or learns from a memory, or starts new environments and plays.
      st.sampled_from(['play', 'play', 'learn', 'restart']),
      st.lists(ends, min_size=1, max_size=6),
      # The answer of a push is lost, after or before it has arrived.
      st.sampled_from(['arrives', 'arrives', 'unanswered', 'lost']),
    ),
    max_size=12,
  )
)
def test_logs_arrive_whole_whatever_happens(pushes):
  env, count = replayable.Recorded(Game(), reseed_steps=7), 0
  env.reset(seed=3)
  sent, states = {}, {}
  for kind, steps, fate in pushes:
    if kind == 'restart':
      env = replayable.Recorded(Game(), reseed_steps=7)
      env.reset(seed=count)
    played = steps if kind != 'learn' else []
    for each in played:
      env.env.ends = np.array(each)
      count += 1
      env.step(np.array([count % 100, count % 97]))
    log = env.action_log()
    message = crossed(
      wire.packed(contribution_of(log, steps=len(played)), sent)
    )
    if fate != 'lost':
      wire.unpacked(message, states)
      assert_same(states[0].action_log, log)
    if fate != 'arrives':
      sent[0] = None


def test_a_log_that_arrived_never_changes():
  env = replayable.Recorded(Game())
  env.reset(seed=3)
  sent, states, arrived = {}, {}, []
  for number in range(70):  # More than the first room of a log.
    env.step(np.array([number, number]))
    message = wire.packed(contribution_of(env.action_log(), steps=1), sent)
    wire.unpacked(crossed(message), states)
    arrived.append(states[0].action_log.actions)
  for number, actions in enumerate(arrived):
    assert actions[:, 0].tolist() == [*range(number + 1)]


@pytest.mark.parametrize(
  'error',
  [
    errors.UsageError('--x=1: no'),
    errors.RunError('no'),
    errors.LostError('no'),
    errors.HungError('no'),
    threads.Stopped(),
  ],
)
def test_errors_cross_with_their_notes(error):
  error.add_note('raised in thread actor-learner-0')
  arrived = crossed(error)
  assert type(arrived) is type(error)
  assert str(arrived) == str(error)
  assert arrived.__notes__ == error.__notes__
