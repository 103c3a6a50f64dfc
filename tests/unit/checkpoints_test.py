"""Checkpoints on a real disk, whole or not at all."""

import errno
import hashlib
import json
import os
import resource

from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax.acting import carry as carry_lib
from a3c_jax.acting import normalization
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, types
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import StoreState
from a3c_jax.runs import checkpoint_store, checkpoints


def make_state(
  frames, *, hidden=4, workers=2, state=(), target=True, normalized=False
):
  """A state of which every array tells the frames and its place."""
  values = np.random.default_rng(frames)
  params = {
    'params': {
      'w': values.normal(size=(hidden, 3)).astype(np.float32),
      'b': values.normal(size=3).astype(np.float32),
    }
  }
  optimizer_state = optax.scale_by_rms().init(params)
  optimizer_state = jax.tree.map(
    lambda leaf: values.uniform(size=leaf.shape).astype(leaf.dtype),
    optimizer_state,
  )
  worker_states = []
  for worker in range(workers):
    carry = carry_lib.Carry(
      obs=values.integers(0, 255, (1, 4, 5)).astype(np.uint8),
      is_first=np.array([worker == 0]),
      action=np.array([worker], np.int32) if worker else None,
      state=jax.tree.map(lambda leaf: leaf + frames, state),
      key=jax.random.PRNGKey(frames + worker),
      episode_return=np.array([0.1 * frames]),
      clipped_return=np.array([1.0]),
      episode_steps=np.array([frames]),
    )
    log = replayable.ActionLog(
      seeds=np.array([worker + 5]),
      starts=np.array([0]),
      actions=np.arange(frames * worker)[:, None],
    )
    worker_states.append(WorkerState(carry, log))
  statistics = None
  if normalized:
    seen = normalization.of(worker_states[0].carry.obs)
    statistics = normalization.merged(normalization.initial((4, 5)), seen)
  version = types.Version(
    params,
    params if target else None,
    frames,
    updates=2 * frames,
    statistics=statistics,
  )
  return checkpoints.RunState(
    StoreState(version, [optimizer_state], worker_states),
    {'seconds': 1.5, 'log': {'row_began': [frames, 0.25]}},
  )


def assert_same(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for one, other in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_array_equal(one, other)
    if hasattr(other, 'dtype'):
      assert one.dtype == other.dtype


def saved(workdir, name='checkpoints'):
  return sorted(int(entry.name) for entry in (workdir / name).iterdir())


LSTM = (jnp.zeros((1, 3)), jnp.ones((1, 3)))


@pytest.mark.parametrize(
  'given',
  [
    {},
    {'state': LSTM, 'target': False},
    {'workers': 1},
    {'normalized': True},
  ],
  ids=['two workers', 'recurrent', 'one worker', 'normalized'],
)
def test_all_comes_back_as_it_was(tmp_path, given):
  state = make_state(3, **given)
  checkpoints.Checkpoints(tmp_path, keep=1).save(state)
  found, problems = checkpoints.Checkpoints(tmp_path, keep=1).restore(
    make_state(7, **given)
  )
  assert problems == []
  assert_same(found, state)


def test_the_newest_are_kept(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for frames in (1, 20, 3000, 100_000):
    store.save(make_state(frames))
  assert saved(tmp_path) == [3000, 100_000]
  found, _ = store.restore(make_state(1))
  assert found.store.version.frames == 100_000


def test_none_yet(tmp_path):
  store = checkpoints.Checkpoints(tmp_path / 'new', keep=1)
  assert store.restore(make_state(1)) == (None, [])


def other_of_frame_1():
  other = make_state(2)
  version = other.store.version._replace(frames=1)
  return other._replace(store=other.store._replace(version=version))


def test_one_of_the_same_count_of_frames_is_replaced(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.save(make_state(1))
  store.save(other_of_frame_1())
  assert saved(tmp_path) == [1]
  assert_same(store.restore(make_state(1))[0], other_of_frame_1())
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'best',
    'checkpoints',
  ]


def test_a_replacement_that_fails_loses_nothing(tmp_path, monkeypatch):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1))

  def full(file, content):
    file.write(content[:100])
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(checkpoint_store.files, 'write_all', full)
  with pytest.raises(OSError, match='No space left on device'):
    store.save(other_of_frame_1())
  assert os.listdir(tmp_path / 'checkpoints') == ['1']
  assert_same(store.restore(make_state(1))[0], make_state(1))


def test_what_cannot_be_read_back_is_no_checkpoint(tmp_path, monkeypatch):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1))

  def loses_the_end(file, content):
    file.write(content[:-1])

  monkeypatch.setattr(checkpoint_store.files, 'write_all', loses_the_end)
  with pytest.raises(OSError, match='cannot be read back'):
    store.save(make_state(2))
  assert os.listdir(tmp_path / 'checkpoints') == ['1']


ODD_PATHS = [
  'run[1]',
  'run*',
  'run?',
  'run{a,b}',
  'two\nlines',
  os.fsdecode(b'caf\xe9'),
  ' spaces ',
  '-dash',
  '~tilde',
  'quote\'"',
  '100%s',
  'back\\slash',
  'x' * 255,
  '/'.join(['y' * 200] * 15),
]


@pytest.mark.parametrize('name', ODD_PATHS, ids=ascii)
def test_paths_of_any_characters(tmp_path, name):
  folder = tmp_path / name
  store = checkpoints.Checkpoints(folder, keep=2)
  for frames in (1, 2, 3):
    store.save(make_state(frames))
  assert saved(folder) == [2, 3]
  store = checkpoints.Checkpoints(folder, keep=2)
  assert_same(store.restore(make_state(9))[0], make_state(3))
  template = make_state(9).store.version.params
  found, _, frames, problems = checkpoints.read_params(folder, '2', template)
  assert_same(found, make_state(2).store.version.params)
  assert (frames, problems) == (2, [])


def test_data_types_come_back_as_they_were(tmp_path):
  arrays = {
    'half': np.ones(3, jnp.bfloat16),
    'none': None,
    'empty': np.zeros((0, 3), np.int8),
    'a/b': {'c.d': np.array(True)},
  }
  store = checkpoint_store.Store(tmp_path / 'store')
  store.save(1, arrays, {'text': os.fsdecode(b'\xff')})
  found, record, _ = store.read(1)
  assert_same(found, arrays)
  assert record == {'text': os.fsdecode(b'\xff')}
  found['half'][0] = 2.0  # And can be written to.


def test_nothing_is_written_where_only_the_time_has_passed(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1))
  before = (tmp_path / 'checkpoints' / '1').stat().st_ino
  later = make_state(1)
  store.save(later._replace(record=later.record | {'seconds': 99.0}))
  assert (tmp_path / 'checkpoints' / '1').stat().st_ino == before
  changed = later.record | {'log': {'row_began': [5, 0.25]}}
  store.save(later._replace(record=changed))
  assert store.restore(later)[0].record['log'] == changed['log']


def damage_bytes(path):
  """Turns round one byte in the middle."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xFF
  path.write_bytes(data)


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_text(path, old, new):
  data = path.read_bytes()
  assert data.count(old.encode()) == 1
  path.write_bytes(data.replace(old.encode(), new.encode()))


def change_record(path):
  change_text(path, '"frames": 2', '"frames": 3')


def change_format(path):
  change_text(path, 'a3c_jax-checkpoint-2', 'a3c_jax-checkpoinx-2')


def empty(path):
  path.write_bytes(b'')


def add_a_byte(path):
  path.write_bytes(path.read_bytes() + b'.')


def make_folder(path):
  path.unlink()
  path.mkdir()


@pytest.mark.parametrize(
  'damage',
  [
    damage_bytes,
    cut,
    change_record,
    change_format,
    empty,
    add_a_byte,
    make_folder,
  ],
)
def test_the_one_before_a_corrupt_one_counts(tmp_path, damage):
  folder = tmp_path / 'checkpoints'
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_state(1, hidden=400))
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_state(2, hidden=400))
  damage(folder / '2')
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  found, problems = store.restore(make_state(9, hidden=400))
  assert_same(found, make_state(1, hidden=400))
  (problem,) = problems
  assert 'checkpoint of frame 2 is corrupt' in problem
  assert (tmp_path / 'corrupt-2').exists()
  assert saved(tmp_path) == [1]
  store.save(make_state(2, hidden=400))  # The count is free again.
  damage(folder / '2')
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  assert_same(store.restore(make_state(9, hidden=400))[0], found)
  assert (tmp_path / 'corrupt-2-again').exists()


def test_one_takes_the_place_of_a_folder(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  (tmp_path / 'checkpoints' / '1' / 'below').mkdir(parents=True)
  store.save(make_state(1))
  assert_same(store.restore(make_state(9))[0], make_state(1))
  assert saved(tmp_path) == [1]


def test_half_written_ones_do_not_count(tmp_path):
  folder = tmp_path / 'checkpoints'
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_state(1))
  left = folder / '2.new'
  left.write_bytes((folder / '1').read_bytes())
  found, problems = checkpoints.Checkpoints(tmp_path, keep=3).restore(
    make_state(1)
  )
  assert found.store.version.frames == 1
  assert problems == []
  assert not left.exists()


@pytest.mark.parametrize(
  ('given', 'named'),
  [
    (
      {'hidden': 5},
      r'parameters: params/w has shape \(4, 3\), expected \(5, 3\)',
    ),
    ({'state': LSTM}, 'recurrent state: 0 has shape'),
  ],
)
def test_another_network_is_refused(tmp_path, given, named):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1))
  with pytest.raises(checkpoints.MismatchError, match=named):
    store.restore(make_state(1, **given))
  assert saved(tmp_path) == [1]


def test_the_key_of_another_generator_is_refused(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  state = make_state(1)
  store.save(state)
  worker = state.store.worker_states[0]
  key = np.zeros(len(worker.carry.key) + 2, np.uint32)
  other = worker._replace(carry=worker.carry._replace(key=key))
  with pytest.raises(checkpoints.MismatchError, match='PRNG: key has shape'):
    store.restore(
      state._replace(store=state.store._replace(worker_states=[other]))
    )


def test_the_best_ones_are_those_that_states_tell_of(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  best = [
    make_state(frames, normalized=True).store.version for frames in range(4)
  ]
  store.save_best(best[1], {})
  store.save(make_state(10), best=1)
  store.save_best(best[2], {})
  assert saved(tmp_path, 'best') == [1, 2]
  # Ended here: the run resumes from 10, and forgets what came later.
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.restore(make_state(0))
  assert saved(tmp_path, 'best') == [1]
  assert store.has_best(1) and not store.has_best(2)
  store.save_best(best[3], {})
  store.save(make_state(20), best=3)
  # The state of frame 10 is still there, should this one be damaged.
  assert saved(tmp_path, 'best') == [1, 3]
  store.save(make_state(30), best=3)
  assert saved(tmp_path, 'best') == [3]
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.restore(make_state(0))
  params, statistics, frames, _ = checkpoints.read_params(
    tmp_path, 'best', best[0].params
  )
  assert_same((params, statistics), (best[3].params, best[3].statistics))
  assert frames == 3


def test_no_best_is_forgotten_while_a_record_cannot_be_read(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  version = make_state(1).store.version
  store.save_best(version, {})
  store.save(make_state(10), best=1)
  change_text(tmp_path / 'checkpoints' / '10', '"best": 1', '"best": 7')
  store.save_best(version._replace(frames=2), {})
  store.save(make_state(20), best=2)
  assert saved(tmp_path, 'best') == [1, 2]


def test_reading_leaves_a_half_written_one_to_its_writer(tmp_path):
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_state(1))
  half = tmp_path / 'checkpoints' / '2.new'
  half.write_bytes(b'')
  template = make_state(5).store.version.params
  found, statistics, frames, problems = checkpoints.read_params(
    tmp_path, 'latest', template
  )
  assert_same(found, make_state(1).store.version.params)
  assert (statistics, frames, problems) == (None, 1, [])
  assert half.exists()


def test_nothing_to_read(tmp_path):
  template = make_state(5).store.version.params
  for which in ('latest', 'best', '5'):
    with pytest.raises(FileNotFoundError, match='of frames: none'):
      checkpoints.read_params(tmp_path, which, template)
  assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_state(1, hidden=10**4))
  before = sorted(tmp_path.rglob('*'))
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  # The parameters, their targets and the mean squares have 30,003 floats each.
  resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 4 * 30_003, limits[1]))
  try:
    with pytest.raises(OSError, match='File too large'):
      store.save(make_state(2, hidden=10**4))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert sorted(tmp_path.rglob('*')) == before


def test_those_of_another_format_are_named_and_left_alone(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_state(1))
  store.save(make_state(2), best=1)
  store.save_best(make_state(1).store.version, {})
  newest = tmp_path / 'checkpoints' / '2'
  change_text(newest, 'a3c_jax-checkpoint-2', 'a3c_jax-checkpoint-1')
  template = make_state(5)
  for read in (
    lambda: store.restore(template),
    lambda: checkpoints.read_params(
      tmp_path, '2', template.store.version.params
    ),
  ):
    with pytest.raises(errors.UsageError, match='another version of a3c_jax'):
      read()
  # What it tells of is not known, so nothing is forgotten.
  store.save(make_state(3), best=3)
  assert saved(tmp_path) == [1, 2, 3]
  assert saved(tmp_path, 'best') == [1]


def test_those_of_an_older_version_are_named_and_left_alone(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_state(1))
  old = tmp_path / 'checkpoints' / '2'
  old.mkdir()
  (old / '_CHECKPOINT_METADATA').write_text('{}')
  template = make_state(5)
  for read in (
    lambda: store.restore(template),
    lambda: checkpoints.read_params(
      tmp_path, 'latest', template.store.version.params
    ),
  ):
    with pytest.raises(errors.UsageError) as error:
      read()
    assert str(error.value) == (
      f'--workdir={tmp_path}: an older version of a3c_jax wrote checkpoints/2, '
      'with orbax; allowed: the folder of a run, of this version'
    )
  assert saved(tmp_path) == [1, 2]


class DeletedMeanwhile(checkpoint_store.Store):
  """Whose writer goes on between a listing and the first reading."""

  def frames(self):
    listed = super().frames()
    if listed == [1]:
      (self.folder / '1').rename(self.folder / '2')
    return listed


@pytest.mark.parametrize(
  'folder, which', [('checkpoints', 'latest'), ('best',) * 2]
)
def test_a_reader_looks_again_for_one_that_was_deleted(
  tmp_path, monkeypatch, folder, which
):
  state = make_state(2)
  checkpoint_store.Store(tmp_path / folder).save(
    1, checkpoints._to_arrays(state.store), {'frames': 2}
  )
  monkeypatch.setattr(checkpoints, 'Store', DeletedMeanwhile)
  params = state.store.version.params
  found, _, frames, problems = checkpoints.read_params(tmp_path, which, params)
  assert_same(found, params)
  assert (frames, problems) == (2, [])


def test_one_that_is_asked_for_and_deleted_meanwhile(tmp_path, monkeypatch):
  checkpoint_store.Store(tmp_path / 'checkpoints').save(1, {}, {})
  monkeypatch.setattr(checkpoints, 'Store', DeletedMeanwhile)
  with pytest.raises(FileNotFoundError, match='of frames: 2$'):
    checkpoints.read_params(tmp_path, '1', {})


def test_a_name_of_more_digits_than_python_reads(tmp_path):
  checkpoint_store.Store(tmp_path / 'checkpoints').save(1, {'params': {}}, {})
  (tmp_path / 'checkpoints' / ('9' * 200)).write_text('')
  with pytest.raises(FileNotFoundError, match='of frames: 1$'):
    checkpoints.read_params(tmp_path, '9' * 5000, {})
  assert checkpoints.read_params(tmp_path, '0001', {})[2] == 1


@pytest.mark.parametrize('name', ['checkpoints', 'best'])
def test_a_file_in_the_place_of_a_folder(tmp_path, name):
  (tmp_path / name).write_text('')
  with pytest.raises(errors.UsageError) as error:
    checkpoints.Checkpoints(tmp_path, keep=1)
  assert str(error.value).startswith(f'--workdir={tmp_path}: {name}: ')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read anything')
def test_one_that_may_not_be_read_is_not_passed_over(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.save(make_state(1))
  store.save(make_state(2))
  (tmp_path / 'checkpoints' / '2').chmod(0)
  with pytest.raises(errors.UsageError, match='checkpoints/2: Permission'):
    store.restore(make_state(9))
  assert saved(tmp_path) == [1, 2]


def test_a_file_system_without_fsync(tmp_path, monkeypatch):
  def fsync(descriptor):
    raise OSError(errno.EINVAL, 'Invalid argument')

  monkeypatch.setattr(os, 'fsync', fsync)
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1))
  assert_same(store.restore(make_state(2))[0], make_state(1))


@pytest.mark.parametrize('saved_with', [True, False])
def test_whether_observations_are_normalised_is_for_the_run_to_say(
  tmp_path, saved_with
):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_state(1, normalized=saved_with))
  template = make_state(2, normalized=not saved_with)
  found, _ = store.restore(template)
  assert_same(found.store.version.statistics, template.store.version.statistics)


def test_one_that_cannot_be_read_now_is_left_where_it_is(tmp_path, monkeypatch):
  store = checkpoint_store.Store(tmp_path / 'checkpoints')
  store.save(2, {'params': {}}, {'frames': 2})

  def fail(path, flags):
    raise OSError(errno.EIO, 'Input/output error')

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint_store.os, 'open', fail)
    with pytest.raises(errors.UsageError, match='checkpoints/2: Input/output'):
      store.newest()
  assert store.newest()[0].record['frames'] == 2
  assert not list(tmp_path.glob('corrupt-*'))


def test_pipes_and_devices_are_no_checkpoints(tmp_path):
  store = checkpoint_store.Store(tmp_path / 'checkpoints')
  store.save(2, {'params': {}}, {'frames': 2})
  os.mkfifo(tmp_path / 'checkpoints' / '7')
  (tmp_path / 'checkpoints' / '8').symlink_to('/dev/zero')
  store = checkpoint_store.Store(tmp_path / 'checkpoints', read_only=True)
  newest, problems = store.newest()
  assert newest.record['frames'] == 2
  assert problems == [
    f'checkpoint of frame {frames} is corrupt: it is no file'
    for frames in (8, 7)
  ]
  assert store.record(7) is None


@pytest.mark.parametrize(
  ('arrays', 'header'),
  [
    ({'params': {}}, []),
    ({'params': {}}, {}),
    (np.zeros(2), {'record': {}}),
    ({'params': {}}, {'record': 3}),
  ],
)
def test_what_a_stranger_made_up_is_told_in_one_line(tmp_path, arrays, header):
  content = serialization.msgpack_serialize(arrays)
  sha256 = hashlib.sha256(content).hexdigest()
  if isinstance(header, dict) and header:
    header = header | {'arrays_sha256': sha256}
  header = json.dumps(header).encode()
  digest = hashlib.sha256(header).hexdigest().encode()
  (tmp_path / '5').write_bytes(
    b'a3c_jax-checkpoint-2 ' + digest + b' ' + header + b'\n' + content
  )
  store = checkpoint_store.Store(tmp_path, read_only=True)
  with pytest.raises(checkpoint_store.CorruptError) as error:
    store.read(5)
  assert str(error.value).startswith('checkpoint of frame 5 is corrupt: ')


@pytest.mark.parametrize(
  'change',
  [
    {'run': None},
    {'updates': None},
    {'arrays': {'workers': None}},
    {'arrays': {'statistics': {'mean': np.zeros(2)}}},
    {'best': [1]},
  ],
)
def test_a_record_that_was_made_up_does_not_fit(tmp_path, change):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.save(make_state(3))
  plain = checkpoint_store.Store(tmp_path / 'checkpoints')
  arrays, record, _ = plain.read(3)
  arrays |= change.pop('arrays', {})
  record = {k: v for k, v in (record | change).items() if v is not None}
  arrays = {k: v for k, v in arrays.items() if v is not None}
  plain.save(3, arrays, record)
  if 'best' in change:
    assert store.restore(make_state(9))[0].store.version.frames == 3
  else:
    with pytest.raises(checkpoints.MismatchError):
      store.restore(make_state(9))


@pytest.mark.parametrize('frames', [-5, 'x', 4])
def test_one_of_another_count_of_frames_is_corrupt(tmp_path, frames):
  plain = checkpoint_store.Store(tmp_path / 'checkpoints')
  plain.save(3, {'params': {}}, {'frames': frames})
  with pytest.raises(
    checkpoint_store.CorruptError, match='another count of frames'
  ):
    plain.read(3)
