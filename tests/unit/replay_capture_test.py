"""A memory that is captured and restored goes on to the same bits."""

import hashlib
import zlib

import numpy as np
import pytest
import transitions

from a3c_jax import replay

PRIORITIES = replay.Priorities(0.6, 0.01)
SETTINGS = {
  'capacity': 2 * 2 * 80,
  'workers': 2,
  'num_envs': 2,
  'shared': True,
  'stack': 4,
  'steps': 2,
  'priorities': PRIORITIES,
}


def workers_of(settings, seed=0):
  rng = np.random.default_rng(seed)
  return [
    transitions.Worker(
      rng, num_envs=settings['num_envs'], stack=settings['stack']
    )
    for _ in range(settings['workers'])
  ]


def use(memory, segments, seed):
  """Adds, draws and sets priorities; returns all that was drawn."""
  rng, drawn = np.random.default_rng(seed), []
  for worker, segment in segments:
    memory.extend(worker, segment)
    if memory.size(worker):
      minibatch = memory.sample(worker, 8, rng, beta=0.4)
      drawn.append(minibatch._replace(changes=0))  # Counted since a restart.
      memory.reprioritize(worker, drawn[-1].where, rng.random(8) * 3)
  return drawn


@pytest.mark.parametrize('turns', [3, 30, 43], ids=lambda x: f'{5 * x} steps')
@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('stack', [1, 4])
@pytest.mark.parametrize('priorities', [None, PRIORITIES])
def test_restored_memory_draws_the_same_bits(turns, shared, stack, priorities):
  settings = SETTINGS | {
    'capacity': 320 if shared else 160,
    'shared': shared,
    'stack': stack,
    'priorities': priorities,
  }
  workers = workers_of(settings)

  def segments(count):
    return [
      (w, x.segment(5)) for _ in range(count) for w, x in enumerate(workers)
    ]

  memory = transitions.memory_for(**settings)
  for turn in range(turns):
    use(memory, segments(1), turn)
    if turn % 7 == 0:
      memory.seal()
  restored = transitions.memory_for(**settings)
  restored.restore(memory.capture())
  more = segments(40)
  assert memory.size(0) == restored.size(0)
  for one, other in zip(
    use(memory, more, 99), use(restored, more, 99), strict=True
  ):
    for name, array in one._asdict().items():
      np.testing.assert_array_equal(array, getattr(other, name), name)
  one, other = memory.capture(), restored.capture()
  assert [x.sha256 for x in one.chunks] == [x.sha256 for x in other.chunks]
  for name, array in one.arrays.items():
    np.testing.assert_array_equal(array, other.arrays[name], name)


def test_a_capture_does_not_change_as_the_memory_goes_on():
  memory, workers = transitions.memory_for(**SETTINGS), workers_of(SETTINGS)
  memory.extend(0, workers[0].segment(20))
  state = memory.capture()
  before = {name: x.copy() for name, x in state.arrays.items()}
  for _ in range(20):
    use(memory, [(0, workers[0].segment(9))], 0)
  for name, array in before.items():
    np.testing.assert_array_equal(state.arrays[name], array, name)


def test_full_chunks_are_compressed_once_and_named_by_their_bytes():
  memory, workers = transitions.memory_for(**SETTINGS), workers_of(SETTINGS)
  memory.extend(1, workers[1].segment(25))  # chunks of 80 / 8 = 10
  first = memory.capture()
  assert [x.name.split('-')[:2] for x in first.chunks] == [
    [stream, index] for stream in '23' for index in '012'
  ]
  for chunk in first.chunks:
    assert chunk.data is not None
    assert chunk.sha256 == hashlib.sha256(chunk.data).hexdigest()
    assert chunk.name.split('-')[2] == chunk.sha256[:16]
  frames = np.frombuffer(zlib.decompress(first.chunks[0].data), np.float32)
  np.testing.assert_array_equal(
    frames.reshape(10, *transitions.FRAME),
    [x.obs[-1] for x in workers[1].history[0][:10]],
  )
  memory.extend(1, workers[1].segment(3))
  second = memory.capture()
  for old, new in zip(first.chunks, second.chunks, strict=True):
    is_full = old.name.split('-')[1] != '2'
    assert (old.data is new.data) == is_full
    assert (old.name == new.name) == is_full


def test_chunks_that_are_saved_keep_no_bytes():
  memory, workers = transitions.memory_for(**SETTINGS), workers_of(SETTINGS)
  memory.extend(0, workers[0].segment(25))
  first = memory.capture()
  memory.saved([x.name for x in first.chunks])
  second = memory.capture()
  assert [x.name for x in first.chunks] == [x.name for x in second.chunks]
  has_data = [x.data is not None for x in second.chunks]
  assert has_data == [False, False, True] * 2  # the last one is not full
  with pytest.raises(ValueError, match='missing'):
    transitions.memory_for(**SETTINGS).restore(second)


def test_overwritten_chunks_are_dropped():
  memory, workers = transitions.memory_for(**SETTINGS), workers_of(SETTINGS)
  for _ in range(5):
    memory.extend(0, workers[0].segment(37))
    memory.seal()
  indices = [
    int(x.name.split('-')[1])
    for x in memory.capture().chunks
    if x.name.startswith('0-')
  ]
  # 185 transitions, of which 105 … 184 are stored.
  assert indices == list(range(10, 19))


def test_overwritten_frames_of_a_chunk_are_0_if_it_was_not_sealed_before():
  settings = SETTINGS | {'workers': 1, 'num_envs': 1, 'capacity': 80}
  memory, workers = transitions.memory_for(**settings), workers_of(settings)
  memory.extend(0, workers[0].segment(45))
  memory.extend(0, workers[0].segment(40))
  data = memory.capture().chunks[0].data
  assert data is not None
  frames = np.frombuffer(zlib.decompress(data), np.float32)
  frames = frames.reshape(10, *transitions.FRAME)
  assert not frames[:5].any()
  assert frames[5:].any(axis=1).all()


@pytest.mark.parametrize(
  ('name', 'other'),
  [
    ('workers', {'workers': 4, 'capacity': 640}),
    ('num_envs', {'num_envs': 1, 'capacity': 160}),
    ('shared', {'shared': False, 'capacity': 160}),
    ('transitions_per_environment', {'capacity': 400}),
    ('stack', {'stack': 1}),
    ('steps', {'steps': 3}),
    ('alpha_and_epsilon', {'priorities': None}),
    ('alpha_and_epsilon', {'priorities': replay.Priorities(0.7, 0.01)}),
  ],
)
def test_another_memory_is_refused(name, other):
  state = transitions.memory_for(**SETTINGS).capture()
  memory = transitions.memory_for(**(SETTINGS | other))
  with pytest.raises(ValueError, match=f'has {name} '):
    memory.restore(state)
