"""A run with a replay memory that is stopped and resumed."""

from catch_runs import interrupted
import pytest
from replay_runs import (
  REPLAYING,
  SMALL,
  interrupted_in_minibatch,
  minibatches_due,
  named,
  remembered,
  run_small,
  same_memory,
)
from results import digest, read_rows, same_episodes


def same_runs(one, other, *workdirs):
  """Checks that two results, and what is in their folders, are the same."""
  assert one.finished and other.finished
  assert (one.frames, one.updates) == (other.frames, other.updates)
  assert one.episodes == other.episodes
  assert digest(one.params) == digest(other.params)
  same_episodes(*workdirs)
  same_memory(*workdirs)


@pytest.mark.parametrize('given', REPLAYING, ids=named)
def test_a_run_that_is_stopped_anywhere_ends_in_the_same_bits(
  tmp_path, monkeypatch, given
):
  given = given | {'replay_minibatches': 3, 'checkpoint_frames': 150}
  parts = tmp_path / 'parts'
  whole = run_small(tmp_path / 'whole', **given)
  # In a segment of those that fill the memory, then in one after the start.
  interrupted(
    monkeypatch, parts, 43, **SMALL | given | {'frames': 1000, 'threads': 1}
  )
  assert minibatches_due(parts) == [0]
  interrupted(
    monkeypatch, parts, 300, **SMALL | given | {'frames': 1000, 'threads': 1}
  )
  # With the first of three minibatches, and with the second one.
  for number, left in ((4, 2), (34, 1)):
    interrupted_in_minibatch(monkeypatch, parts, number, **given)
    assert minibatches_due(parts) == [left]
  last = run_small(parts, **given)
  same_runs(last, whole, tmp_path / 'whole', parts)
  assert remembered(parts)['heads'].tolist() == [1000]
