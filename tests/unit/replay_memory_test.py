"""The replay memory against whole observations in a list."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest
import transitions

from a3c_jax import replay

segment_of = jax.jit(replay.segment_of, static_argnames='stack')


def windows(history, where, *, steps):
  """Returns what `segment_of` must give, from lists of whole observations."""
  steps_of = [history[stream][i : i + steps + 1] for stream, i in where]

  def time_first(field, length):
    return np.array(
      [[getattr(x[t], field) for x in steps_of] for t in range(length)]
    )

  return {
    'obs': time_first('obs', steps + 1),
    'is_first': time_first('is_first', steps + 1),
    'r_t': time_first('r', steps),
    'discount_t': time_first('discount', steps),
    'a': np.concatenate(
      [time_first('a', steps), np.zeros((1, len(where)), int)]
    ),
  }


@settings(deadline=None, max_examples=60)
@given(
  seed=st.integers(0, 2**32 - 1),
  stack=st.sampled_from([1, 2, 4]),
  steps=st.sampled_from([1, 3]),
  num_envs=st.integers(1, 2),
  shared=st.booleans(),
  prioritized=st.booleans(),
  mid_episode=st.booleans(),
  rows=st.integers(7, 20),
  turns=st.integers(1, 30),
)
def test_draws_exactly_the_windows_of_a_list_of_observations(
  seed, stack, steps, num_envs, shared, prioritized, mid_episode, rows, turns
):
  rng = np.random.default_rng(seed)
  memory = transitions.memory_for(
    stack=stack,
    steps=steps,
    capacity=rows * num_envs * (2 if shared else 1),
    workers=2,
    num_envs=num_envs,
    shared=shared,
    priorities=replay.Priorities(0.6, 0.01) if prioritized else None,
  )
  workers = [
    transitions.Worker(
      rng, num_envs=num_envs, stack=stack, mid_episode=mid_episode
    )
    for _ in range(2)
  ]
  for _ in range(turns):
    worker, length = rng.integers(2), int(rng.integers(1, 8))
    replace = bool(rng.random() < 0.2)
    memory.extend(worker, workers[worker].segment(length, replace))
  history = [x for worker in workers for x in worker.history]
  for worker in range(2):
    mine = (
      range(2 * num_envs)
      if shared
      else range(worker * num_envs, (worker + 1) * num_envs)
    )
    expected = {
      (stream, i)
      for stream in mine
      for i in transitions.startable(
        history[stream], rows=rows, stack=stack, steps=steps
      )
    }
    assert memory.size(worker) == len(expected)
    if not expected:
      with pytest.raises(ValueError, match='no transition'):
        memory.sample(worker, 1, rng)
      continue
    many = memory.sample(worker, 40 * len(expected), rng)
    assert set(map(tuple, many.where.tolist())) == expected
    drawn = memory.sample(worker, 64, rng)
    segment = segment_of(drawn, stack=stack)
    for name, array in windows(history, drawn.where, steps=steps).items():
      np.testing.assert_array_equal(getattr(segment, name), array, name)
    heads = np.array([len(x) for x in history])
    np.testing.assert_array_equal(
      drawn.age, heads[drawn.where[:, 0]] - 1 - drawn.where[:, 1]
    )


def filled(rng, *, count=12, priorities=None, capacity=100):
  """A memory of one environment with `count` transitions, none special."""
  memory = transitions.memory_for(
    capacity=capacity, workers=1, num_envs=1, shared=True, priorities=priorities
  )
  worker = transitions.Worker(rng, num_envs=1, stack=1, ends=0)
  memory.extend(0, worker.segment(count))
  return memory, worker


def test_the_last_transition_waits_for_its_next_observation():
  memory, worker = filled(np.random.default_rng(0), count=5)
  assert memory.size(0) == 4
  memory.extend(0, worker.segment(1))
  assert memory.size(0) == 5


def test_frames_are_where_jax_uses_them_without_a_copy():
  memory, _ = filled(np.random.default_rng(0))
  frames = memory.sample(0, 3, np.random.default_rng(0)).frames
  assert frames.ctypes.data % 64 == 0
  assert frames.shape == (3, 2, *transitions.FRAME)


def test_an_example_has_the_form_of_a_sample_and_is_0():
  memory, _ = filled(np.random.default_rng(0))
  sample = memory.sample(0, 3, np.random.default_rng(0))
  # Memory that was freed just now is not 0.
  junk = np.full(sample.frames.nbytes + 64, 255, np.uint8)
  del junk
  for mine, other in zip(memory.example(3), sample, strict=True):
    assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
    assert not mine.any()


def test_uniform_draws_are_uniform():
  rng = np.random.default_rng(0)
  memory, _ = filled(rng, count=11)
  drawn = memory.sample(0, 50_000, rng)
  counts = np.bincount(drawn.where[:, 1], minlength=10)
  # 5,000 of each are expected, with a standard deviation of 67.
  np.testing.assert_allclose(counts, 5000, atol=300)
  np.testing.assert_array_equal(drawn.weight, np.float32(1))


def test_draws_end_although_almost_nothing_may_be_drawn():
  memory, worker = filled(np.random.default_rng(0), count=10, capacity=10_000)
  lone = worker.segment(2_000)
  lone.truncated[:] = True
  memory.extend(0, lone)
  assert memory.size(0) == 10
  drawn = memory.sample(0, 20_000, np.random.default_rng(0)).where[:, 1]
  np.testing.assert_allclose(np.bincount(drawn), 2000, atol=200)


def test_draws_are_proportional_to_priorities_and_weights_undo_it():
  rng = np.random.default_rng(0)
  memory, _ = filled(rng, count=5, priorities=replay.Priorities(0.5, 1.0))
  where = np.array([[0, 0], [0, 1], [0, 2], [0, 3]])
  memory.reprioritize(0, where, np.array([0.0, -3.0, 8.0, 15.0]))
  drawn = memory.sample(0, 1000, rng, beta=1.0)
  # (|δ| + ε)^α are 1, 2, 3, 4; one is drawn from each thousandth of their sum.
  np.testing.assert_array_equal(
    np.bincount(drawn.where[:, 1]), [100, 200, 300, 400]
  )
  # (N · P)^-1 are 2.5, 1.25, 2.5 / 3 and 0.625.
  np.testing.assert_allclose(
    drawn.weight, (1 / np.array([1, 2, 3, 4]))[drawn.where[:, 1]], rtol=1e-6
  )
  half = memory.sample(0, 1000, rng, beta=0.5)
  np.testing.assert_allclose(
    half.weight,
    (1 / np.sqrt([1, 2, 3, 4]))[half.where[:, 1]],
    rtol=1e-6,
  )


def test_new_transitions_get_the_largest_priority_so_far():
  rng = np.random.default_rng(0)
  memory, worker = filled(rng, count=3, priorities=replay.Priorities(1.0, 0.5))
  memory.reprioritize(0, np.array([[0, 0]]), np.array([2.5]))
  memory.reprioritize(0, np.array([[0, 0]]), np.array([0.5]))
  memory.extend(0, worker.segment(1))
  # 1 of the drawn again, 1 of the one from the beginning, 3 of the new one.
  drawn = memory.sample(0, 500, rng)
  np.testing.assert_array_equal(np.bincount(drawn.where[:, 1]), [100, 100, 300])


def test_errors_of_overwritten_transitions_are_ignored():
  rng = np.random.default_rng(0)
  memory, worker = filled(
    rng, count=10, capacity=10, priorities=replay.Priorities(1.0, 1.0)
  )
  old = np.array([[0, 2], [0, 5]])
  memory.extend(0, worker.segment(10))
  memory.reprioritize(0, old, np.array([9.0, 9.0]))
  drawn = memory.sample(0, 900, rng)
  np.testing.assert_array_equal(
    np.bincount(drawn.where[:, 1] - 10), np.full(9, 100)
  )


def test_the_last_of_several_errors_counts():
  rng = np.random.default_rng(0)
  memory, _ = filled(rng, count=3, priorities=replay.Priorities(1.0, 1.0))
  where = np.array([[0, 0], [0, 0]])
  memory.reprioritize(0, where, np.array([5.0, 2.0]))
  counts = np.bincount(memory.sample(0, 400, rng).where[:, 1])
  np.testing.assert_array_equal(counts, [300, 100])


def test_errors_that_are_not_finite_are_refused():
  memory, _ = filled(
    np.random.default_rng(0), priorities=replay.Priorities(1.0, 1.0)
  )
  with pytest.raises(ValueError, match='errors'):
    memory.reprioritize(0, np.array([[0, 0]]), np.array([np.nan]))


def test_errors_change_nothing_of_uniform_draws():
  memory, _ = filled(np.random.default_rng(0))
  memory.reprioritize(0, np.array([[0, 0]]), np.array([9.0]))
  drawn = memory.sample(0, 100, np.random.default_rng(0))
  assert len(set(drawn.where[:, 1])) == 11


@pytest.mark.parametrize(
  'change',
  [
    lambda x: x._replace(obs=x.obs[:, :, ::-1].copy()),
    lambda x: x._replace(is_first=np.zeros_like(x.is_first)),
    lambda x: x._replace(obs=x.obs[::-1].copy()),
  ],
  ids=['newest first', 'unmarked episode', 'backwards'],
)
def test_observations_that_are_no_stacks_are_refused(change):
  memory = transitions.memory_for(
    stack=4, capacity=100, workers=1, num_envs=1, shared=True
  )
  worker = transitions.Worker(
    np.random.default_rng(0), num_envs=1, stack=4, ends=0
  )
  memory.extend(0, worker.segment(3))
  wrong = change(worker.segment(3, replace=True))
  with pytest.raises(ValueError, match='obs are not stacks'):
    memory.extend(0, wrong)


@pytest.mark.parametrize('at', [0, 2], ids=['first', 'within'])
def test_an_episode_that_begins_with_copies_of_a_frame_is_refused(at):
  """As some wrappers stack frames: the memory would give 0 instead."""
  memory = transitions.memory_for(
    stack=4, capacity=100, workers=1, num_envs=1, shared=True
  )
  frames = [10, 10, 10, 10, 11, 12, 13]
  before = [[1, 2, 3, 4], [2, 3, 4, 5]][:at]
  obs = before + [frames[i : i + 4] for i in range(4)]
  steps = len(obs) - 1
  obs = np.array(obs, np.float32)[:, None, :, None] + np.zeros(
    transitions.FRAME
  )
  zeros = np.zeros((steps, 1), np.float32)
  segment = replay.Transitions(
    obs=obs.astype(np.float32),
    a=zeros.astype(np.int32),
    r_t=zeros,
    discount_t=zeros,
    is_first=(np.arange(steps + 1) == at)[:, None],
    truncated=zeros.astype(bool),
  )
  with pytest.raises(ValueError, match='obs are not stacks'):
    memory.extend(0, segment)


def test_a_segment_that_does_not_follow_the_last_one_is_refused():
  memory = transitions.memory_for(
    stack=4, capacity=100, workers=1, num_envs=1, shared=True
  )
  worker = transitions.Worker(
    np.random.default_rng(0), num_envs=1, stack=4, ends=0
  )
  memory.extend(0, worker.segment(5))
  worker.segment(1)  # is lost
  lost = worker.segment(5)
  with pytest.raises(ValueError, match='obs are not stacks'):
    memory.extend(0, lost)


@pytest.mark.parametrize(
  ('name', 'wrong'),
  [
    ('obs', lambda x: x.astype(np.float64)),
    ('obs', lambda x: x[:-1]),
    ('a', lambda x: x[..., None]),
    ('discount_t', lambda x: x[:-1]),
    ('is_first', lambda x: x[:-1]),
    ('truncated', lambda x: x.astype(np.float32)),
    ('r_t', lambda x: np.concatenate([x, x], axis=1)),
  ],
)
def test_a_segment_of_another_form_is_refused(name, wrong):
  memory, worker = filled(np.random.default_rng(0))
  segment = worker.segment(3)
  segment = segment._replace(**{name: wrong(getattr(segment, name))})
  with pytest.raises(ValueError, match=f'^{name} '):
    memory.extend(0, segment)


def test_a_segment_longer_than_the_ring_is_refused():
  memory, worker = filled(np.random.default_rng(0), count=5, capacity=10)
  with pytest.raises(ValueError, match='capacity'):
    memory.extend(0, worker.segment(11))


@pytest.mark.parametrize(
  ('name', 'wrong'),
  [
    ('capacity', {'capacity': 9}),
    ('obs_shape', {'obs_shape': (3, 2)}),
    ('priorities', {'priorities': replay.Priorities(0.6, 0.0)}),
    ('priorities', {'priorities': replay.Priorities(-1.0, 0.1)}),
  ],
)
def test_impossible_memories_are_refused(name, wrong):
  right = {
    'capacity': 10,
    'workers': 1,
    'num_envs': 2,
    'shared': True,
    'obs_shape': (4, 2),
    'obs_dtype': np.dtype(np.uint8),
    'action_shape': (),
    'action_dtype': np.dtype(np.int32),
    'stack': 4,
  }
  replay.Memory(**right)
  with pytest.raises(ValueError, match=name):
    replay.Memory(**(right | wrong))


def test_a_million_atari_frames_take_little_more_than_their_bytes():
  # A sixteenth of it: a small machine may refuse even memory not touched.
  memory = replay.Memory(
    capacity=62_500,
    workers=1,
    num_envs=1,
    shared=True,
    obs_shape=(4, 84, 84),
    obs_dtype=np.dtype(np.uint8),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    stack=4,
    priorities=replay.Priorities(0.6, 0.01),
  )
  assert 7.056e9 < 16 * memory.num_bytes <= 7.3e9


def test_threads_never_see_a_torn_row():
  """Every number of a transition gives its worker and its index."""
  memory = replay.Memory(
    capacity=2 * 64,
    workers=2,
    num_envs=1,
    shared=True,
    obs_shape=(256,),
    obs_dtype=np.dtype(np.float32),
    action_shape=(),
    action_dtype=np.dtype(np.int32),
    priorities=replay.Priorities(0.6, 0.01),
  )
  failures = []

  def segment(worker, first):
    number = np.arange(first, first + 6, dtype=np.float32) + worker * 100_000
    obs = np.tile(number[:, None, None], (1, 1, 256))
    zeros = np.zeros((5, 1), np.float32)
    return replay.Transitions(
      obs=obs,
      a=obs[:-1, :, 0].astype(np.int32),
      r_t=obs[:-1, :, 0],
      discount_t=zeros,
      is_first=np.zeros((6, 1), bool),
      truncated=np.zeros((5, 1), bool),
    )

  def work(worker):
    rng = np.random.default_rng(worker)
    try:
      for turn in range(300):
        memory.extend(worker, segment(worker, 5 * turn))
        drawn = memory.sample(worker, 16, rng, beta=0.5)
        number = drawn.where[:, 0] * 100_000 + drawn.where[:, 1]
        both = np.stack([number, number + 1], axis=1)
        np.testing.assert_array_equal(
          drawn.frames, np.tile(both[..., None], (1, 1, 256))
        )
        np.testing.assert_array_equal(drawn.a[:, 0], number)
        memory.reprioritize(worker, drawn.where, rng.random(16))
    except BaseException as error:
      failures.append(error)

  threads = [threading.Thread(target=work, args=(x,)) for x in range(2)]
  for thread in threads:
    thread.start()
  while any(x.is_alive() for x in threads):
    memory.seal()
    memory.capture()
  for thread in threads:
    thread.join()
  assert not failures, failures[0]
