"""Short runs with a replay memory, and what their checkpoints hold of it."""

import itertools
import zlib

from catch_runs import run
import numpy as np
from short_runs import make_ctrl_c

from a3c_jax.replay import chunks
from a3c_jax.runs import checkpoint_store
from a3c_jax.runtimes import replaying

# Full after half of a run of 1,000 frames, so that it wraps.
SMALL = {
  'replay_capacity': 300,
  'replay_start_frames': 100,
  'replay_batch': 8,
  'network': 'catch_runs:make_small',
}
# Every algorithm with a replay memory, and settings that matter to it.
REPLAYING = (
  {'algo': 'dqn'},
  {'algo': 'double_dqn', 't_max': 3},
  {'algo': 'prioritized_dqn'},
  {'algo': 'gorila'},
  {'algo': 'pgql'},
  {'algo': 'one_step_q', 'replay': 'per_thread', 'prioritized': True},
  {'algo': 'nstep_q', 'replay': 'shared'},
)


def named(given):
  """The id of a test."""
  return '-'.join(f'{value}' for value in given.values())


def run_small(workdir, make_env=None, **given):
  """A run on Catch with a small memory and a small network."""
  return run(workdir, make_env, **SMALL | {'frames': 1000} | given)


def newest(workdir):
  """The newest checkpoint, with its attached files."""
  store = checkpoint_store.Store(workdir / 'checkpoints', read_only=True)
  saved, problems = store.newest(with_attached=True)
  assert saved and not problems
  return saved


def minibatches_due(workdir):
  """How many each worker has left, in the newest checkpoint."""
  workers = newest(workdir).arrays['workers']
  return [int(each['minibatches_due']) for each in workers.values()]


def remembered(workdir):
  """All that the memory holds in the newest checkpoint, by name.

  The frames of a stream are those that are not overwritten.
  """
  saved = newest(workdir)
  arrays = saved.arrays['memory']
  rows, num_envs = (
    int(arrays['transitions_per_environment']),
    int(arrays['num_envs']),
  )
  frames = {}
  for name, _ in sorted(
    saved.record['memory'], key=lambda x: chunks.key_of(chunks.Chunk(*x, None))
  ):
    stream, _, _ = name.split('-')
    data = zlib.decompress(saved.attached[name])
    frames[stream] = frames.get(stream, b'') + data
  itemsize = np.dtype(arrays['obs_dtype'].tobytes().decode()).itemsize
  size = itemsize * int(np.prod(arrays['obs_shape']))
  for stream, data in frames.items():
    head = arrays['heads'].reshape(-1)[int(stream) // num_envs]
    frames[stream] = np.frombuffer(data[-size * min(head, rows) :], np.uint8)
  return arrays | {f'frames of {name}': x for name, x in frames.items()}


def same_memory(*workdirs):
  """Checks that the newest checkpoints hold the same memory, bit for bit."""
  first, *others = map(remembered, workdirs)
  for other in others:
    assert first.keys() == other.keys()
    for name, array in first.items():
      np.testing.assert_array_equal(array, other[name], err_msg=name)


def interrupted_in_minibatch(monkeypatch, workdir, number, **given):
  """A run that ends with one of its minibatches, counted from 1."""
  ctrl_c = make_ctrl_c(monkeypatch)
  learn, numbers = replaying.Replayer.learn, itertools.count(1)

  def learn_and_stop(self, clock):
    if next(numbers) == number:
      ctrl_c()
    return learn(self, clock)

  with monkeypatch.context() as patch:
    patch.setattr(replaying.Replayer, 'learn', learn_and_stop)
    result = run_small(workdir, **given)
  assert not result.finished
  return result
