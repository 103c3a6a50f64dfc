"""A folder on its way to a machine and back; the machine is a folder, too."""

import os

import pytest

from a3c_jax.reproduce import machine, transfer

RUN = {
  'config.json': 'settings',
  'train.csv': 'rows 1',
  'checkpoints/1': 'after rows 1',
  'checkpoints/attached/a': 'frames',
}


class Machine(machine.Machine):
  """A machine that counts what is read, and may do something before that."""

  def __init__(self, base):
    super().__init__()
    self._base = base
    self.were_read = []
    self.before_read = lambda: None

  def read(self, path, offset, size):
    self.before_read()
    self.were_read.append(path.removeprefix('run/'))
    return super().read(path, offset, size)


@pytest.fixture
def here(tmp_path):
  """Files of the run here; the folder of a run is below."""
  return tmp_path / 'here' / 'run'


@pytest.fixture
def there(tmp_path):
  return tmp_path / 'there' / 'run'


@pytest.fixture
def far(there):
  there.parent.mkdir()
  return Machine(there.parent)


@pytest.fixture
def copy(here, far):
  here.parent.mkdir()
  return transfer.Copy(here, far)


def write(folder, texts):
  for name, text in texts.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_text()
    for path in folder.rglob('*')
    if path.is_file()
  }


def nothing_else_is_here(here):
  return [path.name for path in here.parent.iterdir()] == ['run']


@pytest.mark.parametrize('piece', [1, 3, 4 * 2**20])
def test_files_are_the_same_there_and_here_again(
  here, there, copy, piece, monkeypatch
):
  monkeypatch.setattr(transfer, '_PIECE', piece)
  write(here, RUN | {'empty': ''})
  copy.send()
  assert read(there) == RUN | {'empty': ''}
  new = {'train.csv': 'rows 1, rows 2', 'eval.csv': '', 'best/1': 'the best'}
  write(there, new)
  assert copy.bring()
  assert read(here) == RUN | {'empty': ''} | new
  assert nothing_else_is_here(here)


def test_a_run_that_has_not_started_has_nothing_to_send(here, there, copy):
  copy.send()
  assert not there.exists()
  write(there, RUN)
  assert copy.bring()
  assert read(here) == RUN


def test_only_what_has_changed_is_read(here, there, far, copy):
  write(here, RUN)
  copy.send()
  assert copy.bring()
  assert far.were_read == []
  write(there, {'train.csv': 'rows 1, rows 2'})
  for _ in range(2):
    assert copy.bring()
  assert far.were_read == ['train.csv']


def test_what_the_run_removes_is_removed_here_and_nothing_else(
  here, there, copy
):
  write(here, RUN)
  copy.send()
  write(here, {'mine.txt': 'mine'})
  (there / 'checkpoints/1').unlink()
  write(there, {'checkpoints/2': 'after rows 2'})
  assert copy.bring()
  left = {name: text for name, text in RUN.items() if name != 'checkpoints/1'}
  assert read(here) == left | {
    'mine.txt': 'mine',
    'checkpoints/2': 'after rows 2',
  }


def test_rows_come_with_the_checkpoint_that_counts_them(here, there, far, copy):
  write(there, RUN)
  numbers = iter(range(2, 100))

  def write_a_checkpoint():
    number = next(numbers)
    write(there, {'train.csv': f'rows {number}'})
    write(there, {f'checkpoints/{number}': f'after rows {number}'})

  far.before_read = write_a_checkpoint
  assert not copy.bring()
  assert not here.exists()

  def write_the_last():
    far.before_read = lambda: None
    write_a_checkpoint()

  far.before_read = write_the_last
  assert copy.bring()
  assert read(here) == read(there)
  assert nothing_else_is_here(here)


def test_a_file_that_goes_meanwhile_is_left_out(here, there, far, copy):
  write(there, RUN)

  def remove_one():
    (there / 'train.csv').unlink(missing_ok=True)

  far.before_read = remove_one
  assert copy.bring()
  assert read(here) == {
    name: text for name, text in RUN.items() if name != 'train.csv'
  }


@pytest.mark.parametrize('moves', range(5))
def test_a_kill_leaves_no_checkpoint_whose_rows_are_missing(
  here, there, copy, moves, monkeypatch
):
  """Some files have been moved into place when the process ends."""
  write(there, RUN)
  assert copy.bring()
  new = {
    'train.csv': 'rows 1, rows 2',
    'checkpoints/2': 'after rows 2',
    'checkpoints/attached/b': 'frames',
  }
  write(there, new)
  (there / 'checkpoints/1').unlink()
  move, left = os.replace, iter(range(moves))

  def move_some(source, target):
    next(left)  # StopIteration plays the signal.
    move(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(os, 'replace', move_some)
    if moves < len(new):
      with pytest.raises(StopIteration):
        copy.bring()
    else:
      assert copy.bring()
  found = read(here)
  if 'checkpoints/2' in found:
    assert found.items() >= new.items()
  else:
    assert found['checkpoints/1'] == 'after rows 1'
    assert found['train.csv'].startswith('rows 1')
  assert ('checkpoints/2' in found) == (moves >= len(new))
  assert nothing_else_is_here(here)
