"""Replay memories that are in another process than their workers."""

import numpy as np
import pytest
import remotes
from stores import assert_same, plain
from transitions import Worker, memory_for

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import Contribution, Played, Replayed
from a3c_jax.replay.memory import Priorities
from a3c_jax.runtimes.cluster import memories, remote_store

STEPS = 5
GIVEN = {
  'capacity': 60,
  'workers': 2,
  'num_envs': 1,
  'shared': True,
  'priorities': Priorities(alpha=1.0, epsilon=1e-6),
}
STATE = WorkerState(
  None,
  replayable.ActionLog(
    np.zeros(1, np.int64), np.zeros(1, np.int64), np.empty((0, 1), np.int64)
  ),
)


class Pair:
  """A memory in the process of a server, and the same in this process."""

  def __init__(self, **given):
    self.here = memory_for(**GIVEN | given)
    template, params = memory_for(**GIVEN | given), np.zeros(3, np.float32)
    self.process, accepts_factored = remotes.served(
      params,
      plain(),
      worker_states=[STATE, STATE],
      made=template.arguments,
      target_period=None,
    )
    self.store = remote_store.RemoteStore(
      self.process, params, accepts_factored=accepts_factored
    )
    self.there = memories.ServersMemory(template, lambda: self.process)

  def extend(self, worker, transitions):
    self.here.extend(worker, transitions)
    played = Played(worker, STATE, np.zeros(STEPS, int))
    played = played._replace(transitions=transitions)
    self.store.push(Contribution(None, STEPS, 0, (played,)))

  def reprioritize(self, worker, where, errors):
    self.here.reprioritize(worker, where, errors)
    played = Played(worker, STATE, np.empty(0, int))
    self.store.push(
      Contribution(
        None, 0, 0, (played,), replayed=(Replayed(worker, where, errors),)
      )
    )


def sample(memory, worker=0, seed=0):
  return memory.sample(worker, 8, np.random.default_rng(seed), beta=0.5)


@pytest.fixture
def pair():
  pair = Pair()
  players = [
    Worker(np.random.default_rng(seed), num_envs=1, stack=1) for seed in (0, 1)
  ]
  for _ in range(8):  # More than it holds.
    for worker, player in enumerate(players):
      pair.extend(worker, player.segment(STEPS))
  return pair


def test_a_memory_elsewhere_gives_the_same_samples(pair):
  assert pair.there.size(0) == pair.here.size(0) > 0
  for worker in (0, 1):
    drawn = sample(pair.here, worker)
    assert_same(drawn, sample(pair.there, worker))
    pair.reprioritize(
      worker, drawn.where, np.arange(1, 9, dtype=np.float32) * (worker + 1)
    )
  assert_same(sample(pair.here, seed=1), sample(pair.there, seed=1))
  assert_same(pair.here.example(3), pair.there.example(3))
  assert pair.there.most == pair.here.most
  assert pair.there.num_bytes == pair.here.num_bytes


def test_samples_keep_no_memory_that_arrived(pair, monkeypatch):
  came = []

  def ask(*arguments):
    came.append(type(pair.process).ask(pair.process, *arguments))
    return came[-1]

  monkeypatch.setattr(pair.process, 'ask', ask)
  drawn = sample(pair.there)
  (arrived,) = came
  for mine, theirs in zip(drawn, arrived, strict=True):
    assert not np.shares_memory(mine, theirs)
  assert drawn.frames.ctypes.data % 64 == 0


def test_a_checkpoint_holds_it_and_a_new_server_resumes_with_it(pair):
  pair.there.seal()
  state, _ = pair.store.capture()
  assert_same(state.memory.arrays, pair.here.capture().arrays)
  other = Pair()
  assert other.there.why_not(state.memory) == ''
  other.store.restore(state)
  resumed = sample(other.there)
  # Changes are counted since a restart.
  assert_same(sample(pair.there)._replace(changes=resumed.changes), resumed)
  # What is on the disk crosses only by its name.
  pair.there.saved([chunk.name for chunk in state.memory.chunks])
  later, _ = pair.store.capture()
  first = [each.memory.chunks[0] for each in (state, later)]
  assert first[1] == first[0]._replace(data=None)
  assert first[0].data is not None


def test_a_state_of_another_memory_is_refused():
  state = memory_for(**GIVEN | {'capacity': 80}).capture()
  assert '40' in Pair().there.why_not(state)


def test_without_a_server_there_is_no_memory(pair):
  pair.process.ended = True
  for call in (
    lambda: pair.there.size(0),
    lambda: pair.there.sample(0, 1, np.random.default_rng(0)),
    pair.there.seal,
    lambda: pair.there.saved([]),
  ):
    with pytest.raises(errors.LostError, match='parameter server'):
      call()


def test_the_driver_knows_the_smallest_of_the_nodes_memories():
  sizes = []
  memory = memories.NodesMemories(
    memory_for(**GIVEN | {'shared': False}), lambda: sizes
  )
  assert memory.size(0) == 0
  sizes += [5, 3, 7]
  assert [memory.size(worker) for worker in (0, 1)] == [3, 3]
  assert not memory.persistent
