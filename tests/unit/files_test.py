"""Locks and writes, also where a file system does not have all of it."""

import errno
import fcntl
import os

import pytest

from a3c_jax.core import files


@pytest.fixture(autouse=True)
def warnings_of_one_test():
  files._warn_once.cache_clear()


def fail_with(number):
  def fail(*arguments):
    raise OSError(number, os.strerror(number))

  return fail


def test_a_file_is_locked_until_it_is_closed(tmp_path):
  path = tmp_path / 'lock'
  with path.open('w') as first, path.open('w') as second:
    files.lock(first, folder='--workdir=x')
    with pytest.raises(BlockingIOError):
      files.lock(second, folder='--workdir=x')
    first.close()
    files.lock(second, folder='--workdir=x')


def test_without_locks_there_is_one_warning(tmp_path, monkeypatch, caplog):
  monkeypatch.setattr(fcntl, 'flock', fail_with(errno.ENOLCK))
  with (tmp_path / 'lock').open('w') as file:
    for _ in range(2):
      files.lock(file, folder='--workdir=x')
  (message,) = caplog.messages
  assert message.startswith('--workdir=x: ')


def test_another_failure_of_a_lock_is_raised(tmp_path, monkeypatch):
  monkeypatch.setattr(fcntl, 'flock', fail_with(errno.EIO))
  with (tmp_path / 'lock').open('w') as file, pytest.raises(OSError):
    files.lock(file, folder='--workdir=x')


@pytest.mark.parametrize(
  ('number', 'raises'), [(errno.EINVAL, False), (errno.EIO, True)]
)
def test_sync_fails_only_if_data_may_be_lost(number, raises, monkeypatch):
  monkeypatch.setattr(os, 'fsync', fail_with(number))
  if raises:
    with pytest.raises(OSError):
      files.sync(0)
  else:
    files.sync(0)


def test_all_is_written_in_as_many_writes_as_it_takes(tmp_path):
  class Short:
    def __init__(self, file):
      self.fileno = file.fileno
      self._file = file

    def write(self, content):
      return self._file.write(content[:3])

  with (tmp_path / 'file').open('wb', buffering=0) as file:
    files.write_all(Short(file), b'0123456789')
  assert (tmp_path / 'file').read_bytes() == b'0123456789'


def test_replace_makes_and_replaces_a_file(tmp_path):
  for content in b'old', b'new':
    files.replace(tmp_path / 'file', content)
    assert (tmp_path / 'file').read_bytes() == content
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_replacement_that_reads_otherwise_is_none(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  files.replace(path, b'old', read_back=True)
  assert path.read_bytes() == b'old'
  monkeypatch.setattr(
    files, 'write_all', lambda file, content: file.write(content.upper())
  )
  with pytest.raises(OSError, match='cannot be read back'):
    files.replace(path, b'new', read_back=True)
  assert path.read_bytes() == b'old'
  assert os.listdir(tmp_path) == ['file']


def test_a_replacement_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
  files.replace(tmp_path / 'file', b'old')
  monkeypatch.setattr(files, 'sync', fail_with(errno.ENOSPC))
  with pytest.raises(OSError) as error:
    files.replace(tmp_path / 'file', b'new')
  assert error.value.errno in files.NO_SPACE
  assert (tmp_path / 'file').read_bytes() == b'old'
  assert [path.name for path in tmp_path.iterdir()] == ['file']
