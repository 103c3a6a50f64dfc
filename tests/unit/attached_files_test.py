"""Files that checkpoints share are there as long as one names them."""

import contextlib
import hashlib
import io
import json
import os

import numpy as np
import pytest

from a3c_jax.core import errors, files
from a3c_jax.runs import checkpoint_store
from a3c_jax.runs.checkpoint_store import Store

CONTENTS = {name: name.encode() * 1000 for name in 'abcde'}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
  monkeypatch.setattr(os, 'fsync', lambda descriptor: None)


def save(store, frames, new='', old=''):
  """Saves a checkpoint that has some attached files."""
  attached = {name: CONTENTS[name] for name in new} | dict.fromkeys(old)
  arrays = {'x': np.array(frames)}
  store.save(frames, arrays, {'names': sorted(new + old)}, attached)


def opened(tmp_path, **given):
  return Store(tmp_path / 'store', **given)


def on_disk(tmp_path):
  folder = tmp_path / 'store' / 'attached'
  return ''.join(sorted(path.name for path in folder.iterdir()))


def assert_whole(store, frames):
  """Asserts that a checkpoint has all that was saved."""
  arrays, record, attached = store.read(frames, with_attached=True)
  assert arrays['x'] == frames
  assert attached == {name: CONTENTS[name] for name in record['names']}


def test_they_come_back_if_they_are_asked_for(tmp_path):
  store = opened(tmp_path)
  save(store, 1, new='ab')
  save(store, 2, new='c', old='b')
  assert store.read(2).attached == {}
  found = store.read(2, with_attached=True).attached
  assert found == {'b': CONTENTS['b'], 'c': CONTENTS['c']}
  newest, problems = opened(tmp_path, read_only=True).newest(with_attached=True)
  assert (newest.attached, problems) == (found, [])
  assert_whole(store, 1)


def test_without_them_nothing_is_written_beside_the_checkpoint(tmp_path):
  store = opened(tmp_path)
  store.save(1, {}, {})
  plain = (tmp_path / 'store' / '1').read_bytes()
  assert b'attached' not in plain
  store.save(1, {}, {}, {})
  assert (tmp_path / 'store' / '1').read_bytes() == plain
  assert os.listdir(tmp_path / 'store') == ['1']
  assert store.read(1, with_attached=True).attached == {}


def test_the_header_has_their_sha256(tmp_path):
  save(opened(tmp_path), 1, new='a')
  line, _, _ = (tmp_path / 'store' / '1').read_bytes().partition(b'\n')
  header = json.loads(line.split(b' ', 2)[2])
  assert header['attached'] == {'a': hashlib.sha256(CONTENTS['a']).hexdigest()}


def test_those_that_no_checkpoint_names_any_more_are_removed(tmp_path):
  store = opened(tmp_path, keep=2)
  save(store, 1, new='ab')
  save(store, 2, new='c', old='b')
  assert on_disk(tmp_path) == 'abc'
  save(store, 3, new='d', old='c')
  assert on_disk(tmp_path) == 'bcd'
  save(store, 3, old='d')  # Replaced.
  assert on_disk(tmp_path) == 'bcd'
  store.delete(2)
  assert on_disk(tmp_path) == 'd'
  save(store, 4)
  save(store, 5)
  assert on_disk(tmp_path) == ''


def test_the_one_that_it_replaces_can_have_the_content(tmp_path):
  store = opened(tmp_path, keep=1)
  save(store, 1, new='ab')
  save(store, 1, old='b')
  assert_whole(store, 1)
  assert on_disk(tmp_path) == 'b'


def test_another_process_goes_on(tmp_path):
  save(opened(tmp_path, keep=1), 1, new='ab')
  store = opened(tmp_path, keep=1)
  save(store, 2, new='c', old='b')
  assert_whole(store, 2)
  assert on_disk(tmp_path) == 'bc'


@pytest.mark.parametrize(
  ('attached', 'named'),
  [
    ({'a': b'another'}, 'another content'),
    ({'../1': b''}, 'no name'),
    ({'c/d': b''}, 'no name'),
    ({'..': b''}, 'no name'),
    ({'': b''}, 'no name'),
    ({'c.new': b''}, 'no name'),
    ({'c\n': b''}, 'no name'),
    ({'x' * 201: b''}, 'no name'),
  ],
)
def test_what_cannot_be_attached(tmp_path, attached, named):
  store = opened(tmp_path)
  save(store, 1, new='a')
  with pytest.raises(ValueError, match=named):
    store.save(2, {}, {}, {'b': CONTENTS['b']} | attached)
  assert store.frames() == [1]
  assert on_disk(tmp_path) == 'a'
  assert_whole(store, 1)


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut(path):
  path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
  path.write_bytes(path.read_bytes() + b'.')


def remove(path):
  path.unlink()


def make_folder(path):
  path.unlink()
  path.mkdir()


def make_pipe(path):
  path.unlink()
  os.mkfifo(path)


def remove_all(path):
  for each in path.parent.iterdir():
    each.unlink()
  path.parent.rmdir()


def make_file_of_folder(path):
  folder = path.parent
  remove_all(path)
  folder.write_text('')


DAMAGES = [flip, cut, lengthen, remove, make_folder, make_pipe]


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_one_makes_its_checkpoint_corrupt(tmp_path, damage):
  store = opened(tmp_path, keep=3)
  save(store, 1, new='ab')
  save(store, 2, new='cd', old='b')
  damage(tmp_path / 'store' / 'attached' / 'c')
  reader = opened(tmp_path, read_only=True)
  newest, problems = reader.newest(with_attached=True)
  assert newest.record['names'] == ['a', 'b']
  (problem,) = problems
  assert 'checkpoint of frame 2 is corrupt: its attached file c: ' in problem
  assert reader.newest()[0].arrays['x'] == 2  # Without them, it is intact.
  store = opened(tmp_path, keep=3)
  newest, problems = store.newest(with_attached=True)
  assert newest.attached == {'a': CONTENTS['a'], 'b': CONTENTS['b']}
  assert len(problems) == 1 and (tmp_path / 'corrupt-2').is_file()
  assert store.frames() == [1]
  assert on_disk(tmp_path) == 'ab'
  save(store, 2, new='c', old='ab')  # The name is free again.
  assert_whole(store, 2)


@pytest.mark.parametrize('damage', [*DAMAGES, remove_all, make_file_of_folder])
def test_one_that_all_checkpoints_share(tmp_path, damage):
  store = opened(tmp_path, keep=3)
  save(store, 1, new='a')
  save(store, 2, old='a')
  damage(tmp_path / 'store' / 'attached' / 'a')
  newest, problems = opened(tmp_path, keep=3).newest(with_attached=True)
  assert newest is None
  assert len(problems) == 2
  assert store.frames() == [1, 2]  # Nothing is moved for nothing.


def test_one_that_is_written_again_is_whole_again(tmp_path):
  store = opened(tmp_path)
  save(store, 1, new='a')
  flip(tmp_path / 'store' / 'attached' / 'a')
  save(store, 2, new='a')
  assert_whole(store, 1)
  assert_whole(store, 2)


def test_one_that_should_be_there_and_is_missing(tmp_path):
  store = opened(tmp_path)
  save(store, 1, new='ab')
  (tmp_path / 'store' / 'attached' / 'a').unlink()
  with pytest.raises(OSError) as error:
    save(store, 2, new='c', old='ab')
  assert error.value.strerror == 'its attached file a is missing'
  assert store.frames() == [1]
  assert on_disk(tmp_path) == 'b'


def test_one_whose_checkpoints_someone_deleted(tmp_path):
  store = opened(tmp_path)
  save(store, 1, new='ab')
  (tmp_path / 'store' / '1').unlink()
  # An OSError, which ends a run in one line.
  with pytest.raises(OSError) as error:
    save(store, 2, new='c', old='ab')
  assert error.value.strerror == 'its attached file a is missing'
  assert store.frames() == []


def test_all_stay_while_a_header_cannot_be_read(tmp_path):
  store = opened(tmp_path, keep=2)
  save(store, 1, new='a')
  path = tmp_path / 'store' / '1'
  path.write_bytes(b'a3c_jax-checkpoint-9 ')
  save(opened(tmp_path, keep=2), 2, new='b')
  assert on_disk(tmp_path) == 'ab'
  half = tmp_path / 'store' / 'attached' / 'c.new'
  half.write_bytes(b'')
  store = opened(tmp_path, keep=2)
  assert not half.exists()
  assert on_disk(tmp_path) == 'ab'
  save(store, 3, old='b')
  assert on_disk(tmp_path) == 'b'


def test_a_writer_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
  store = opened(tmp_path)
  save(store, 1, new='a')
  write_all = files.write_all

  def full(file, content):
    if content == CONTENTS['c']:
      file.write(content[:10])
      raise OSError(28, 'No space left on device')
    write_all(file, content)

  monkeypatch.setattr(files, 'write_all', full)
  with pytest.raises(OSError, match='No space left'):
    save(store, 2, new='bc', old='a')
  assert store.frames() == [1]
  assert on_disk(tmp_path) == 'a'
  assert_whole(store, 1)


def test_one_that_cannot_be_read_back_is_no_attached_file(
  tmp_path, monkeypatch
):
  store = opened(tmp_path)
  monkeypatch.setattr(
    files, 'write_all', lambda file, content: file.write(content[:-1])
  )
  with pytest.raises(OSError, match='cannot be read back'):
    save(store, 1, new='a')
  assert store.frames() == []
  assert on_disk(tmp_path) == ''


def test_one_that_cannot_be_read_now_is_no_damage(tmp_path, monkeypatch):
  save(opened(tmp_path), 1, new='a')
  store = opened(tmp_path)
  open_file = os.open

  def fail(path, *flags):
    if os.path.basename(path) == 'a':
      raise OSError(5, 'Input/output error')
    return open_file(path, *flags)

  with monkeypatch.context() as patch:
    patch.setattr(os, 'open', fail)
    with pytest.raises(errors.UsageError, match='attached/a: Input/output'):
      store.newest(with_attached=True)
  assert_whole(store, 1)


def test_a_reader_looks_again_for_those_that_were_removed(
  tmp_path, monkeypatch
):
  writer = opened(tmp_path, keep=1)
  save(writer, 1, new='a')
  reader = opened(tmp_path, read_only=True)
  open_file = os.open

  def late(path, *flags):
    if os.path.basename(path) == 'a' and writer.frames() == [1]:
      save(writer, 2, new='b')
    return open_file(path, *flags)

  monkeypatch.setattr(os, 'open', late)
  newest, problems = reader.newest(with_attached=True)
  assert newest.attached == {'b': CONTENTS['b']}
  assert problems == []


@pytest.mark.parametrize(
  'attached', [3, ['a'], {'../secret': 'x'}, {'secret': 3}, {'/etc/passwd': ''}]
)
def test_what_a_stranger_made_up(tmp_path, attached):
  secret = tmp_path / 'store' / 'secret'
  store = opened(tmp_path)
  secret.write_text('secret')
  save(store, 1, new='a')
  path = tmp_path / 'store' / '1'
  line, _, rest = path.read_bytes().partition(b'\n')
  header = json.loads(line.split(b' ', 2)[2]) | {'attached': attached}
  path.write_bytes(checkpoint_store._header_line(header) + rest)
  with pytest.raises(checkpoint_store.CorruptError):
    store.read(1, with_attached=True)
  opened(tmp_path).delete(1)
  assert secret.exists()


def test_they_are_on_the_disk_before_the_checkpoint(tmp_path, monkeypatch):
  done = []
  replace, sync_folder = files.replace, files.sync_folder

  def replaced(path, content, **given):
    done.append(f'replace {path.name}')
    replace(path, content, **given)

  def synced(path):
    done.append(f'sync {path.name}')
    sync_folder(path)

  store = opened(tmp_path, keep=1)
  save(store, 1, new='a')
  monkeypatch.setattr(files, 'replace', replaced)
  monkeypatch.setattr(files, 'sync_folder', synced)
  save(store, 2, new='b')
  assert done == [
    'replace b',
    'sync attached',
    'replace 2',
    'sync store',
    'sync store',  # After checkpoint 1 was deleted, before its files are.
  ]


class Killed(BaseException):
  """The process is no more: all that it tries to do fails."""


OPERATIONS = [
  (os, 'mkdir'),
  (os, 'unlink'),
  (os, 'replace'),
  (os, 'rename'),
  (os, 'rmdir'),
  (os, 'open'),
  (os, 'fsync'),
  (os, 'listdir'),
  (io, 'open'),
]


class KilledBefore:
  """Kills before the operation of a number, from 0 on."""

  def __init__(self, patch, number):
    self.left = number
    for module, name in OPERATIONS:
      patch.setattr(module, name, self._wrapped(getattr(module, name)))
    patch.setattr(files, 'write_all', self._write_all)

  def _count(self):
    self.left -= 1
    if self.left < 0:
      raise Killed

  def _wrapped(self, operation):
    def wrapped(*arguments, **given):
      self._count()
      return operation(*arguments, **given)

    return wrapped

  def _write_all(self, file, content):
    half = len(content) // 2
    for part in content[:half], content[half:]:
      self._count()
      file.write(part)


def save_first(tmp_path):
  save(opened(tmp_path, keep=2), 1, new='a')


def save_next(tmp_path):
  save(opened(tmp_path, keep=2), 30, new='de', old='c')


def replace_newest(tmp_path):
  save(opened(tmp_path, keep=2), 20, new='d', old='c')


def save_without(tmp_path):
  save(opened(tmp_path, keep=1), 30)


def delete_older(tmp_path):
  opened(tmp_path).delete(10)


def move_damaged_aside(tmp_path):
  opened(tmp_path).newest(with_attached=True)


def two_checkpoints(tmp_path):
  store = opened(tmp_path, keep=2)
  save(store, 10, new='ab')
  save(store, 20, new='c', old='b')


def damaged_one(tmp_path):
  two_checkpoints(tmp_path)
  flip(tmp_path / 'store' / 'attached' / 'c')


def rubbish(tmp_path):
  two_checkpoints(tmp_path)
  (tmp_path / 'store' / '30.new').write_text('half')
  for name in ('d', 'd.new'):
    (tmp_path / 'store' / 'attached' / name).write_text('half')


@pytest.mark.parametrize(
  ('before', 'action', 'newest'),
  [
    (lambda path: None, save_first, (None, 1)),
    (two_checkpoints, save_next, (20, 30)),
    (two_checkpoints, replace_newest, (20,)),
    (two_checkpoints, save_without, (20, 30)),
    (two_checkpoints, delete_older, (20,)),
    (rubbish, opened, (20,)),
    (damaged_one, move_damaged_aside, (10,)),
  ],
  ids=lambda value: getattr(value, '__name__', None),
)
def test_a_kill_at_any_point_leaves_whole_checkpoints(
  tmp_path, monkeypatch, before, action, newest
):
  for number in range(200):
    path = tmp_path / str(number)
    path.mkdir()
    before(path)
    with monkeypatch.context() as patch:
      killed = KilledBefore(patch, number)
      with contextlib.suppress(Killed):
        action(path)
    store = opened(path)
    found, _ = store.newest(with_attached=True)
    frames = None if found is None else int(found.arrays['x'])
    assert frames in newest
    named = set()
    for each in store.frames():
      assert_whole(store, each)
      named |= {*store.record(each)['names']}
    folder = path / 'store' / 'attached'
    left = os.listdir(folder) if folder.exists() else []
    assert {*left} == named
    assert not list(path.rglob('*.new'))
    if killed.left >= 0:  # It did all.
      break
  assert number > 3 and killed.left >= 0
  assert frames == newest[-1]
