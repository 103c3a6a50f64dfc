"""Folders and flags that experiments/sweep.py refuses, and files it mends."""

import contextlib
import csv
import errno
import fcntl
import pathlib

from programs import refused, succeeded
import pytest
import script_runs
import searches
from searches import RATE, SETTINGS, rows, run, started, statuses


def test_a_row_that_was_not_written_to_its_end_is_cut_off(search):
  succeeded(search())
  path = pathlib.Path('s/results.csv')
  whole = path.read_text()
  path.write_text(whole[:-5])
  out = succeeded(search())
  assert started(out) == ['run-001']
  assert path.read_text() == whole


def test_columns_that_somebody_changed_are_refused(search):
  succeeded(search())
  path = pathlib.Path('s/results.csv')
  changed = path.read_text().replace(',', ';')
  path.write_text(changed)
  line = refused(search())
  assert line == (
    '--folder=s: its results.csv has other columns; allowed: run,'
    'learning_rate,seed,frames,mean_return,eval_mean_return,seconds,status,'
    'exit_code'
  )
  assert path.read_text() == changed


def test_one_search_at_a_time(search):
  succeeded(search())
  with open('s/sweep.json') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    line = refused(search())
  assert line.startswith('--folder=s: another process is using it; ')


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
  """A folder with a search that has ended, and other files."""
  path = tmp_path_factory.mktemp('ended')
  with contextlib.chdir(path):
    succeeded(searches.search())
  files = {
    'other': ['mine.txt'],
    'not_json': ['sweep.json'],
    'not_ours': ['sweep.json', 'results.csv'],
  }
  for folder, names in files.items():
    (path / folder).mkdir()
    for name in names:
      text = '{"mine": 1}' if folder == 'not_ours' else '{'
      (path / folder / name).write_text(text)
  return path


def refusal(path, *arguments):
  """What a search refuses; nothing may change."""

  def state():
    files = [file for file in path.rglob('*') if file.is_file()]
    return {str(file): file.read_bytes() for file in files}

  before = state()
  with contextlib.chdir(path):
    line = refused(run(*arguments))
  assert state() == before
  return line


@pytest.mark.parametrize(
  ('arguments', 'after', 'hint'),
  [
    (['--sweep_seed=2'], [], 'its sweep_seed is 1, not 2'),
    (['--sampler=tpe'], [], 'its sampler is random, not tpe'),
    (['--sampler=x'], [], '--sampler=x: allowed: random, tpe'),
    (['--prune', '--seeds=2'], [], '--prune with --seeds=2: allowed: --seeds'),
    (
      ['--log_uniform=gamma:0.5:1'],
      [],
      'its log_uniform is learning_rate:0.0001:0.01, not learning_rate:0.0001:',
    ),
    ([], ['--algo=a3c'], 'its script is script.py, not script.py --algo=a3c'),
    (['--folder=other'], [], '--folder=other: holds files, but no sweep.json'),
    (['--folder=not_json'], [], 'not_json: its sweep.json is not that of a'),
    (['--folder=not_ours'], [], 'not_ours: its sweep.json is not that of a'),
    (['--folder=/dev/null/s'], [], '--folder=/dev/null/s: Not a directory'),
    (['--folder='], [], '--folder=: allowed: a path'),
    (['--runs=0'], [], '--runs=0: allowed'),
    (['--seeds=0'], [], '--seeds=0: allowed'),
    (['--parallel=0'], [], '--parallel=0: allowed'),
    (['--sweep_seed=-1'], [], '--sweep_seed=-1: allowed'),
    (['--log_uniform=x:1:2:3'], [], '--log_uniform=x:1:2:3: allowed: NAME:LOW'),
    (['--log_uniform=x:1'], [], '--log_uniform=x:1: allowed: NAME:LOW:HIGH'),
    (['--log_uniform=x:0:1'], [], '--log_uniform=x:0:1: allowed: NAME:LOW'),
    (['--log_uniform=x:2:1'], [], '--log_uniform=x:2:1: allowed: NAME:LOW'),
    (['--log_uniform=x:1:1'], [], '--log_uniform=x:1:1: allowed: NAME:LOW'),
    (['--log_uniform=x:1:inf'], [], '--log_uniform=x:1:inf: allowed: NAME'),
    (['--log_uniform=x:nan:1'], [], '--log_uniform=x:nan:1: allowed: NAME'),
    (['--log_uniform=--x:1:2'], [], '--log_uniform=--x:1:2: allowed: NAME'),
    (['--log_uniform='], [], '--log_uniform=: allowed: NAME:LOW:HIGH'),
    (['--log_uniform=x:1:2,x:3:4'], [], '--log_uniform=x:3:4: allowed: each'),
    ([RATE], [], '--log_uniform=learning_rate:1e-4:1e-2: allowed: each'),
    (['--log_uniform=seed:1:2'], [], '--log_uniform=seed:1:2: allowed: each'),
    (['--log_uniform=frames:1:2'], [], '--log_uniform=frames:1:2: allowed'),
    ([], ['--seed=3'], '--seed=3 after --: allowed'),
    ([], ['--workdir', 'mine'], '--workdir after --: allowed'),
    ([], ['-learning_rate=1'], '-learning_rate=1 after --: allowed'),
    (['--frames=3'], [], '--frames: unknown; allowed: '),
  ],
)
def test_bad_input_is_refused_in_one_line(ended, arguments, after, hint):
  assert hint in refusal(
    ended, *SETTINGS, *arguments, '--', 'script.py', *after
  )


@pytest.mark.parametrize(
  ('arguments', 'hint'),
  [
    ([RATE, '--', 'script.py'], '--folder=: allowed: a path'),
    (['--folder=new', '--', 'script.py'], '--log_uniform=: allowed: NAME:LOW'),
    (['--folder=new', RATE], 'no script; allowed: FLAGS -- SCRIPT'),
    (['--folder=new', RATE, '--', 'nowhere.py'], 'nowhere.py: is no file'),
    (['--folder=new', RATE, '--', '--frames=3'], '--frames=3: is no file'),
  ],
)
def test_what_is_missing_is_named_in_one_line(ended, arguments, hint):
  assert hint in refusal(ended, *arguments)


def test_a_folder_that_leads_elsewhere_is_left_alone(search):
  succeeded(search())
  pathlib.Path('other').write_text('mine, and no line')
  pathlib.Path('s/results.csv').unlink()
  pathlib.Path('s/results.csv').symlink_to('../other')
  assert 'results.csv is a link that leads out of it' in refused(search())
  assert pathlib.Path('other').read_text() == 'mine, and no line'


def test_damaged_rows_are_written_again(search):
  succeeded(search())
  results = pathlib.Path('s/results.csv')
  whole = rows()
  first, one, two = results.read_text().splitlines()
  for damaged in (
    one.replace('0.5', 'x.5'),
    one + ',more',
    one.rpartition(',')[0],
    one.replace('finished', '\x00'),
    'run-000',
  ):
    results.write_text('\n'.join([first, damaged, two, '']))
    assert started(succeeded(search())) == ['run-000']
    assert rows() == whole


def test_figures_that_are_no_numbers_are_left_out(search):
  body = "leave(100, score='nought', trained='\\x00')"
  out = succeeded(search(body=body))
  assert rows()['run-001']['mean_return'] == ''
  assert 'mean return unknown' in out


def test_a_damaged_plan_is_refused_and_an_empty_one_begun(search):
  path = pathlib.Path('s/sweep.json')
  path.parent.mkdir()
  for content in ('[' * 100_000, '3'):
    path.write_text(content)
    line = refused(search())
    assert '--folder=s: its sweep.json is not that of a search' in line
  path.write_text('null')
  succeeded(search())


def test_a_full_disk_is_one_line_and_the_same_command_resumes(
  search, monkeypatch
):
  def full(self, row):
    raise OSError(errno.ENOSPC, 'No space left on device')

  line = 'the same command resumes the search'
  searches.write(pathlib.Path(), 'leave(100)')
  with script_runs.largest_files(20):
    code, _, err = run(*SETTINGS, '--', 'script.py')
  assert (code, err) == (1, f'error: --folder=s: File too large; {line}\n')
  with monkeypatch.context() as patch:
    patch.setattr(csv.DictWriter, 'writerow', full)
    code, _, err = search()
  assert code == 1
  assert err == f'error: --folder=s: No space left on device; {line}\n'
  succeeded(search())
  assert statuses() == ['finished'] * 2


def test_a_folder_without_locks(search, monkeypatch):
  def missing(file, how):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', missing)
  code, _, err = search()
  assert code == 0
  assert err.count('the file system has no locks') == 2  # One for the runs.
  assert len(rows()) == 2
