"""A run with a replay memory that is stopped and resumed."""

from catch_runs import interrupted
import numpy as np
import pytest
from replay_runs import (
  REPLAYING,
  SMALL,
  interrupted_in_minibatch,
  minibatches_due,
  named,
  newest,
  remembered,
  run_small,
  same_memory,
)
from results import digest, read_rows, same_episodes

from a3c_jax.core import errors
from a3c_jax.runs import attached_files, checkpoint_store


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


@pytest.mark.parametrize(
  'given',
  [
    {'threads': 1, 'algo': 'dueling_dqn'},
    {'threads': 2, 'algo': 'pgql'},
    {'threads': 2, 'algo': 'prioritized_dqn', 'replay': 'per_thread'},
    {'threads': 4, 'algo': 'nstep_q', 'replay': 'shared'},
  ],
  ids=named,
)
def test_synchronous_threads_repeat_and_resume_in_the_same_bits(
  tmp_path, monkeypatch, given
):
  given = given | {
    'runtime': 'synchronous',
    'envs_per_thread': 4 // given['threads'],
    'replay_minibatches': 3,
    'checkpoint_frames': 150,
  }
  folders = [tmp_path / name for name in ('one', 'other', 'parts')]
  one, other = (run_small(folder, **given) for folder in folders[:2])
  # Minibatches of one round are due until all threads have learnt from them.
  first = given['threads'] * 9 + 1
  interrupted_in_minibatch(monkeypatch, folders[2], first, **given)
  assert minibatches_due(folders[2]) != [0] * given['threads']
  last = run_small(folders[2], **given)
  same_runs(one, other, *folders[:2])
  same_runs(one, last, *folders[::2])


def interrupted_with_minibatches_due(monkeypatch, folder, **given):
  """A run that ends before the last of three minibatches."""
  given = {'replay_minibatches': 3, 'checkpoint_frames': 150} | given
  interrupted_in_minibatch(monkeypatch, folder, 14, **given)
  assert minibatches_due(folder) == [1]
  return given


def sizes_and_updates(workdir, frames):
  """Transitions ever added to the memory at the end, and updates."""
  heads = remembered(workdir)['heads']
  row = read_rows(workdir / 'train.csv')[-1]
  assert int(row['frames']) == frames
  return heads.tolist(), int(row['updates'])


@pytest.mark.parametrize('algo', ['prioritized_dqn', 'nstep_q'])
def test_a_memory_that_is_not_kept_is_filled_again(
  tmp_path, monkeypatch, caplog, algo
):
  given = interrupted_with_minibatches_due(
    monkeypatch,
    tmp_path,
    algo=algo,
    replay='shared',
    replay_checkpoint='exact',
  )
  before = newest(tmp_path).record
  empty = given | {'replay_checkpoint': 'empty'}
  last = run_small(tmp_path, **empty)
  assert last.finished
  assert 'replay memory starts empty' in caplog.text
  # Without minibatches until it holds 100 transitions again.
  steps = 4 if algo == 'prioritized_dqn' else 5
  segments = -(-(1000 - before['frames']) // steps)
  filling = -(-100 // steps)
  assert filling < segments
  of_segments = segments if algo == 'nstep_q' else 0
  learning = last.updates - before['updates'] - of_segments
  assert 3 * (segments - filling - 2) <= learning <= 3 * (segments - filling)
  saved = newest(tmp_path)
  assert 'memory' not in saved.arrays and not saved.attached
  assert not [*(tmp_path / 'checkpoints' / 'attached').glob('*')]


def damage(workdir, names):
  for name in names:
    path = workdir / 'checkpoints' / 'attached' / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def chunks_of(workdir):
  """The names of the chunks of all checkpoints, the oldest first."""
  store = checkpoint_store.Store(workdir / 'checkpoints', read_only=True)
  return {
    frames: {name for name, _ in store.read(frames).record.get('memory', ())}
    for frames in store.frames()
  }


def test_a_damaged_chunk_falls_back_to_the_checkpoint_before(
  tmp_path, monkeypatch, caplog
):
  whole = run_small(
    tmp_path / 'whole', algo='prioritized_dqn', replay_minibatches=3
  )
  parts = tmp_path / 'parts'
  given = {'algo': 'prioritized_dqn', 'replay_minibatches': 3}
  given |= {'checkpoint_frames': 50}
  interrupted_in_minibatch(monkeypatch, parts, 200, **given)
  names = chunks_of(parts)
  *_, before, last = names
  damage(parts, [min(names[last] - names[before])])
  caplog.clear()
  result = run_small(parts, **given)
  assert f'checkpoint of frame {last} is corrupt' in caplog.text
  assert f'resuming at frame {before:,}' in caplog.text
  assert 'starts empty' not in caplog.text
  assert (parts / f'corrupt-{last}').exists()
  same_runs(whole, result, tmp_path / 'whole', parts)


def test_without_an_intact_chunk_the_memory_starts_empty(
  tmp_path, monkeypatch, caplog
):
  given = interrupted_with_minibatches_due(
    monkeypatch, tmp_path, algo='dqn', checkpoint_frames=1, keep=1
  )
  names = chunks_of(tmp_path)
  damage(tmp_path, set.union(*names.values()))
  frames = max(names)
  caplog.clear()
  assert run_small(tmp_path, **given).finished
  assert f'checkpoint of frame {frames} is corrupt' in caplog.text
  assert 'replay memory starts empty' in caplog.text
  assert f'resuming at frame {frames:,}' in caplog.text
  heads, _ = sizes_and_updates(tmp_path, 1000)
  assert heads == [1000 - frames]


def test_without_room_for_the_memory_the_parameters_are_saved(
  tmp_path, monkeypatch
):
  def no_room(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(attached_files.AttachedFiles, 'write', no_room)
  message = 'is written without its replay memory, .* No space left on device'
  with pytest.raises(errors.RunError, match=message):
    run_small(tmp_path, algo='dqn', checkpoint_frames=10)
  monkeypatch.undo()
  saved = newest(tmp_path)
  assert 'memory' not in saved.arrays and 'memory' not in saved.record
  assert run_small(tmp_path, algo='dqn').finished


@pytest.mark.parametrize('failures', [1, 10**6])
def test_checkpoints_without_room_cost_no_earlier_memory(
  tmp_path, monkeypatch, failures
):
  given = interrupted_with_minibatches_due(
    monkeypatch, tmp_path, algo='dqn', checkpoint_frames=1, keep=1
  )
  ((kept, names),) = chunks_of(tmp_path).items()
  write, left = attached_files.AttachedFiles.write, iter(range(failures))

  def no_room(*arguments):
    if next(left, None) is not None:
      raise OSError(28, 'No space left on device')
    return write(*arguments)

  monkeypatch.setattr(attached_files.AttachedFiles, 'write', no_room)
  for _ in range(2):
    with pytest.raises(errors.RunError, match='No space left on device'):
      run_small(tmp_path, **given)
    if failures == 1:
      break
    saved = chunks_of(tmp_path)
    assert saved[kept] == names
    # The newest without a memory takes the place of earlier ones.
    assert [*saved.values()].count(set()) == 1
  monkeypatch.undo()
  assert run_small(tmp_path, **given).finished


@pytest.mark.parametrize('runtime', ['asynchronous', 'synchronous'])
def test_another_number_of_threads_starts_with_an_empty_memory(
  tmp_path, monkeypatch, caplog, runtime
):
  given = interrupted_with_minibatches_due(
    monkeypatch, tmp_path, algo='pgql', runtime=runtime
  )
  frames = newest(tmp_path).record['frames']
  caplog.clear()
  last = run_small(tmp_path, **given, threads=2, override=('threads',))
  assert last.finished
  (warning,) = [
    each.getMessage()
    for each in caplog.records
    if 'memory starts empty' in each.getMessage()
  ]
  assert 'workers' in warning
  heads, _ = sizes_and_updates(tmp_path, last.frames)
  assert len(heads) == 2 and sum(heads) == last.frames - frames


def test_threads_that_were_out_of_step_go_on_together(
  tmp_path, monkeypatch, caplog
):
  given = {'algo': 'pgql', 'threads': 2, 'replay_minibatches': 3}
  interrupted_in_minibatch(
    monkeypatch, tmp_path, 14, runtime='asynchronous', **given
  )
  last = run_small(
    tmp_path, runtime='synchronous', override=('runtime',), **given
  )
  assert last.finished
  assert 'starts empty' not in caplog.text
  assert remembered(tmp_path)['heads'].sum() == last.frames


def test_normalized_observations_come_from_a_memory_of_raw_ones(
  tmp_path, monkeypatch
):
  given = {'algo': 'dqn', 'normalize_obs': True, 'replay_minibatches': 3}
  whole = run_small(tmp_path / 'whole', **given)
  interrupted_in_minibatch(monkeypatch, tmp_path / 'parts', 14, **given)
  last = run_small(tmp_path / 'parts', **given)
  same_runs(whole, last, tmp_path / 'whole', tmp_path / 'parts')
  # Catch shows 0 and 1 alone.
  frames = remembered(tmp_path / 'whole')['frames of 0']
  assert set(frames) <= set(np.float32([0, 1]).tobytes())
  plain = run_small(tmp_path / 'plain', **given | {'normalize_obs': False})
  assert digest(plain.params) != digest(whole.params)
