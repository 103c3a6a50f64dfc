"""Checkpoints on a real disk, whole or not at all."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from a3c_jax import base, checkpoints, normalization, rollout, shared
from a3c_jax.envs import recorded


def make_moment(
  frames, *, hidden=4, threads=2, state=(), target=True, normalized=False
):
  """A moment of which every array tells the frames and its place."""
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
  points = []
  for thread in range(threads):
    carry = rollout.Carry(
      obs=values.integers(0, 255, (1, 4, 5)).astype(np.uint8),
      is_first=np.array([thread == 0]),
      action=np.array([thread], np.int32) if thread else None,
      state=jax.tree.map(lambda leaf: leaf + frames, state),
      key=jax.random.PRNGKey(frames + thread),
      episode_return=np.array([0.1 * frames]),
      clipped_return=np.array([1.0]),
      episode_steps=np.array([frames]),
    )
    past = recorded.Past(
      seeds=np.array([thread + 5]),
      starts=np.array([0]),
      actions=np.arange(frames * thread)[:, None],
    )
    points.append(checkpoints.Point(carry, past))
  moments = normalization.initial((4, 5))
  snapshot = base.Snapshot(
    params,
    params if target else None,
    frames,
    updates=2 * frames,
    moments=normalization.merged(moments, points[0].carry.obs)
    if normalized
    else None,
  )
  return checkpoints.Moment(
    shared.Captured(snapshot, [optimizer_state]),
    points,
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
    {'threads': 1},
    {'normalized': True},
  ],
  ids=['two threads', 'recurrent', 'one thread', 'normalized'],
)
def test_all_comes_back_as_it_was(tmp_path, given):
  moment = make_moment(3, **given)
  checkpoints.Checkpoints(tmp_path, keep=1).save(moment)
  found, problems = checkpoints.Checkpoints(tmp_path, keep=1).restore(
    make_moment(7, **given)
  )
  assert problems == []
  assert_same(found, moment)


def test_the_newest_are_kept(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  for frames in (1, 20, 3000, 100_000):
    store.save(make_moment(frames))
  assert saved(tmp_path) == [3000, 100_000]
  found, _ = store.restore(make_moment(1))
  assert found.captured.snapshot.frames == 100_000


def test_none_yet(tmp_path):
  store = checkpoints.Checkpoints(tmp_path / 'new', keep=1)
  assert store.restore(make_moment(1)) == (None, [])


def other_of_frame_1():
  other = make_moment(2)
  snapshot = other.captured.snapshot._replace(frames=1)
  return other._replace(captured=other.captured._replace(snapshot=snapshot))


def test_one_of_the_same_count_of_frames_is_replaced(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.save(make_moment(1))
  store.save(other_of_frame_1())
  assert saved(tmp_path) == [1]
  assert_same(store.restore(make_moment(1))[0], other_of_frame_1())
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'best',
    'checkpoints',
  ]


def test_a_replacement_that_was_cut_short_loses_nothing(tmp_path, monkeypatch):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_moment(1))
  monkeypatch.setattr(
    store._store._manager, 'save', lambda *args, **kwargs: 1 / 0
  )
  with pytest.raises(ZeroDivisionError):
    store.save(other_of_frame_1())
  assert_same(store.restore(make_moment(1))[0], make_moment(1))
  # The process may end there too.
  folder = tmp_path / 'checkpoints'
  (folder / '1').rename(tmp_path / 'checkpoints-1-replaced')
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  assert_same(store.restore(make_moment(1))[0], make_moment(1))
  # And the one before goes only when the new one is there.
  (tmp_path / 'checkpoints-1-replaced').mkdir()
  checkpoints.Checkpoints(tmp_path, keep=1)
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'best',
    'checkpoints',
  ]


def test_nothing_is_written_where_only_the_time_has_passed(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_moment(1))
  before = (tmp_path / 'checkpoints' / '1').stat().st_ino
  later = make_moment(1)
  store.save(later._replace(record=later.record | {'seconds': 99.0}))
  assert (tmp_path / 'checkpoints' / '1').stat().st_ino == before
  changed = later.record | {'log': {'row_began': [5, 0.25]}}
  store.save(later._replace(record=changed))
  assert store.restore(later)[0].record['log'] == changed['log']


def damage_bytes(folder):
  """Turns round one byte in the middle of the largest file."""
  path = max(
    (path for path in folder.rglob('*') if path.is_file()),
    key=lambda path: path.stat().st_size,
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xFF
  path.write_bytes(data)


def cut_all(folder):
  for path in folder.rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_text(folder, old, new):
  path = folder / 'record' / 'metadata'
  text = path.read_text()
  assert text.count(old) == 1
  path.write_text(text.replace(old, new))


def change_record(folder):
  change_text(folder, '"frames": 2', '"frames": 3')


def remove_record(folder):
  for path in (folder / 'record').iterdir():
    path.unlink()


def empty(folder):
  for path in sorted(folder.rglob('*'), reverse=True):
    path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
  'damage', [damage_bytes, cut_all, change_record, remove_record, empty]
)
def test_the_one_before_a_corrupt_one_counts(tmp_path, damage):
  folder = tmp_path / 'checkpoints'
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_moment(1, hidden=400))
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_moment(2, hidden=400))
  damage(folder / '2')
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  found, problems = store.restore(make_moment(9, hidden=400))
  assert_same(found, make_moment(1, hidden=400))
  (problem,) = problems
  assert 'checkpoint of frame 2 is corrupt' in problem
  assert (tmp_path / 'corrupt-2').is_dir()
  assert saved(tmp_path) == [1]
  store.save(make_moment(2, hidden=400))  # The count is free again.
  damage(folder / '2')
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  assert_same(store.restore(make_moment(9, hidden=400))[0], found)
  assert (tmp_path / 'corrupt-2-again').is_dir()


def test_half_written_ones_do_not_count(tmp_path):
  folder = tmp_path / 'checkpoints'
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_moment(1))
  left = folder / '2.orbax-checkpoint-tmp'
  left.mkdir()
  (left / 'arrays').mkdir()
  found, problems = checkpoints.Checkpoints(tmp_path, keep=3).restore(
    make_moment(1)
  )
  assert found.captured.snapshot.frames == 1
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
  store.save(make_moment(1))
  with pytest.raises(checkpoints.MismatchError, match=named):
    store.restore(make_moment(1, **given))
  assert saved(tmp_path) == [1]


def test_the_key_of_another_generator_is_refused(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  moment = make_moment(1)
  store.save(moment)
  point = moment.points[0]
  key = np.zeros(len(point.carry.key) + 2, np.uint32)
  other = point._replace(carry=point.carry._replace(key=key))
  with pytest.raises(checkpoints.MismatchError, match='PRNG: key has shape'):
    store.restore(moment._replace(points=[other]))


def test_the_best_ones_are_those_that_moments_tell_of(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  best = [
    make_moment(frames, normalized=True).captured.snapshot
    for frames in range(4)
  ]
  store.save_best(best[1], {})
  store.save(make_moment(10), best=1)
  store.save_best(best[2], {})
  assert saved(tmp_path, 'best') == [1, 2]
  # Ended here: the run goes on from 10, and forgets what came later.
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.restore(make_moment(0))
  assert saved(tmp_path, 'best') == [1]
  assert store.has_best(1) and not store.has_best(2)
  store.save_best(best[3], {})
  store.save(make_moment(20), best=3)
  # The moment of frame 10 is still there, should this one be damaged.
  assert saved(tmp_path, 'best') == [1, 3]
  store.save(make_moment(30), best=3)
  assert saved(tmp_path, 'best') == [3]
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  store.restore(make_moment(0))
  params, moments, frames, _ = checkpoints.read_params(
    tmp_path, 'best', best[0].params
  )
  assert_same((params, moments), (best[3].params, best[3].moments))
  assert frames == 3


def test_no_best_is_forgotten_while_a_record_cannot_be_read(tmp_path):
  store = checkpoints.Checkpoints(tmp_path, keep=2)
  snapshot = make_moment(1).captured.snapshot
  store.save_best(snapshot, {})
  store.save(make_moment(10), best=1)
  change_text(tmp_path / 'checkpoints' / '10', '"best": 1', '"best": 7')
  store.save_best(snapshot._replace(frames=2), {})
  store.save(make_moment(20), best=2)
  assert saved(tmp_path, 'best') == [1, 2]


def test_reading_leaves_a_half_written_one_to_its_writer(tmp_path):
  checkpoints.Checkpoints(tmp_path, keep=3).save(make_moment(1))
  half = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
  half.mkdir()
  like = make_moment(5).captured.snapshot.params
  found, moments, frames, problems = checkpoints.read_params(
    tmp_path, 'latest', like
  )
  assert_same(found, make_moment(1).captured.snapshot.params)
  assert (moments, frames, problems) == (None, 1, [])
  assert half.is_dir()


def test_nothing_to_read(tmp_path):
  like = make_moment(5).captured.snapshot.params
  for which in ('latest', 'best', '5'):
    with pytest.raises(FileNotFoundError, match='of frames: none'):
      checkpoints.read_params(tmp_path, which, like)
  assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_anything_is_written(
  tmp_path, monkeypatch
):
  store = checkpoints.Checkpoints(tmp_path, keep=3)
  store.save(make_moment(1, hidden=10**5))
  before = sorted(tmp_path.rglob('*'))
  # The parameters, their targets and the mean squares have 300,003 floats each.
  usage = shutil.disk_usage(tmp_path)
  free = 3 * 4 * 300_003 + 1_000_000
  monkeypatch.setattr(
    shutil, 'disk_usage', lambda path: usage._replace(free=free)
  )
  with pytest.raises(
    OSError, match='No space left on device: 4,600,036 of 4,60'
  ):
    store.save(make_moment(2, hidden=10**5))
  assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('saved_with', [True, False])
def test_whether_observations_are_normalised_is_for_the_run_to_say(
  tmp_path, saved_with
):
  store = checkpoints.Checkpoints(tmp_path, keep=1)
  store.save(make_moment(1, normalized=saved_with))
  like = make_moment(2, normalized=not saved_with)
  found, _ = store.restore(like)
  assert_same(found.captured.snapshot.moments, like.captured.snapshot.moments)
