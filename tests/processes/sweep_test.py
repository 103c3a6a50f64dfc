"""The search over hyperparameters, mostly of tiny scripts that mimic a run."""

import contextlib
import csv
import errno
import fcntl
import io
import json
import math
import os
import pathlib
import resource
import runpy
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import script_flags

from a3c_jax.core import signals
from a3c_jax.reproduce import search as search_lib

ROOT = pathlib.Path(__file__).parents[2]
SWEEP = str(ROOT / 'experiments/sweep.py')
RATE = '--log_uniform=learning_rate:1e-4:1e-2'
SETTINGS = ('--folder=s', RATE, '--runs=2')


# What all scripts of these tests begin with.
BEGINNING = """
import json, os, pathlib, signal, sys

signal.alarm(60)  # Whatever goes wrong, nothing stays behind.
given = dict(text[2:].split('=') for text in sys.argv[1:])
workdir = pathlib.Path(given['workdir'])
number = int(workdir.name[4:7])
print(json.dumps(sys.argv[1:]))


def leave(frames, score=0.5, *, trained=9.0, evaluated=None, **config):
  workdir.mkdir(exist_ok=True)
  config = {'frames': 100, 'seconds': 0.0, 'eval_frames': 0} | config
  (workdir / 'config.json').write_text(json.dumps({'config': config}))
  (workdir / 'train.csv').write_text(
    f'frames,seconds,mean_return\\n1,0.1,-9.0\\n{frames},{trained},{score}\\n'
  )
  if evaluated:
    rows = f'frames,mean_return\\n{evaluated},0.25\\n'
    (workdir / 'eval.csv').write_text(rows)


def stop_when_told():
  signal.sigwait([signal.SIGTERM])
  leave(40)
  sys.exit()


# Before a signal can come.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""


@pytest.fixture
def search(tmp_path, monkeypatch):
  """A function (body of the script, flags...) -> exit code, stdout, stderr."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('PYTHONPATH', str(ROOT), prepend=os.pathsep)

  def searched(body, *arguments, after=('script.py',)):
    (tmp_path / 'script.py').write_text(BEGINNING + body)
    return run(*arguments, '--', *after)

  return searched


def run(*arguments):
  out, err = io.StringIO(), io.StringIO()
  with (
    script_flags.forgotten(),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
    mock.patch.object(sys, 'argv', [SWEEP, *arguments]),
    mock.patch.object(sys, 'path', sys.path[:]),
    pytest.raises(SystemExit) as exit_,
  ):
    runpy.run_path(SWEEP, run_name='__main__')
  return exit_.value.code or 0, out.getvalue(), err.getvalue()


def rows(folder='s'):
  """Those of results.csv, by run; of several the last."""
  with (pathlib.Path(folder) / 'results.csv').open(newline='') as file:
    return {row['run']: row for row in csv.DictReader(file)}


def started(out):
  return [line.split()[0] for line in out.splitlines() if ' starts: ' in line]


def test_a_draw_depends_on_seed_and_number_alone():
  draw = search_lib.draw
  rng = np.random.default_rng([5, 3])
  one, two = rng.uniform(math.log(1e-4), math.log(1e-2)), rng.uniform(0, 1)
  ranges = {'a': (1e-4, 1e-2), 'b': (1.0, math.e)}
  values = draw(ranges, sweep_seed=5, number=3)
  assert values == {
    'a': float(f'{math.exp(one):.3e}'),
    'b': float(f'{math.exp(two):.3e}'),
  }
  assert values == draw(ranges, sweep_seed=5, number=3)
  for seed, number in ((5, 4), (6, 3)):
    assert draw(ranges, sweep_seed=seed, number=number) != values


def test_logarithms_of_draws_are_uniform():
  draws = [
    search_lib.draw({'x': (1e-4, 1e-2)}, sweep_seed=1, number=number)['x']
    for number in range(1000)
  ]
  assert min(draws) >= 1e-4 and max(draws) <= 1e-2
  # A fifth of them in each fifth; the deviation of a count is below 13.
  counts, _ = np.histogram(np.log10(draws), 5, (-4, -2))
  assert np.abs(counts - 200).max() < 40


def test_rounding_stays_in_the_range():
  for number in range(20):
    value = search_lib.draw(
      {'x': (1.00004, 1.00006)}, sweep_seed=1, number=number
    )
    assert 1.00004 <= value['x'] <= 1.00006


def test_every_run_gets_its_flags_and_a_row(search):
  code, out, err = search(
    'leave(100, number, evaluated=120 - number, eval_frames=50)',
    *SETTINGS,
    '--log_uniform=entropy_cost:1e-5:1e-2,value_cost:0.1:1',
    '--seeds=2',
    '--parallel=4',
    after=('script.py', '--algo=a3c'),
  )
  assert (code, err) == (0, '')
  table = rows()
  assert set(table) == {
    'run-000',
    'run-000-seed2',
    'run-001',
    'run-001-seed2',
  }
  names = ('learning_rate', 'entropy_cost', 'value_cost')
  ranges = search_lib.read_ranges(
    ['learning_rate:1e-4:1e-2', 'entropy_cost:1e-5:1e-2', 'value_cost:0.1:1']
  )
  assert tuple(ranges) == names
  for name, row in table.items():
    drawn = search_lib.draw(ranges, sweep_seed=1, number=int(name[4:7]))
    assert {name: float(row[name]) for name in names} == drawn
    seed = '2' if name.endswith('seed2') else '1'
    given = [
      '--algo=a3c',
      *(f'--{name}={row[name]}' for name in names),
      f'--seed={seed}',
    ]
    command = pathlib.Path(f's/{name}.command').read_text()
    assert command == ' '.join(['script.py', *given]) + '\n'
    printed = pathlib.Path(f's/{name}.log').read_text()
    assert json.loads(printed) == [*given, f'--workdir=s/{name}']
    assert row['seed'] == seed
    assert (row['frames'], row['seconds']) == ('100', '9.0')
    assert row['mean_return'] == str(int(name[4:7]))
    assert row['eval_mean_return'] == '0.25'
    assert (row['status'], row['exit_code']) == ('finished', '0')
  assert list(table['run-000']) == [
    'run',
    *names,
    'seed',
    'frames',
    'mean_return',
    'eval_mean_return',
    'seconds',
    'status',
    'exit_code',
  ]


def test_more_runs_and_seeds_later_leave_finished_ones_alone(search):
  assert search('leave(100)', *SETTINGS)[0] == 0
  before = rows()
  code, out, err = search('leave(100)', *SETTINGS, '--runs=3', '--seeds=2')
  assert (code, err) == (0, '')
  assert started(out) == [
    'run-000-seed2',
    'run-001-seed2',
    'run-002',
    'run-002-seed2',
  ]
  after = rows()
  assert len(after) == 6
  assert before.items() <= after.items()
  for number in range(3):
    one, two = after[f'run-{number:03}'], after[f'run-{number:03}-seed2']
    assert one['learning_rate'] == two['learning_rate']
  assert len({row['learning_rate'] for row in after.values()}) == 3
  assert started(search('leave(100)', *SETTINGS)[1]) == []


def test_the_table_has_the_ten_best_first(search):
  code, out, _ = search(
    "leave(100, 'nan' if number == 3 else 10 * number % 7)",
    *SETTINGS,
    '--runs=12',
    '--parallel=6',
  )
  assert code == 0
  lines = out.splitlines()
  top = lines.index('results in s/results.csv') - 11
  assert lines[top].split()[:3] == ['run', 'learning_rate', 'seed']
  # 10 n mod 7 of n = 0, 1, 2, ... is 0, 3, 6, 2, 5, 1, 4, 0, 3, 6, 2, 5.
  scores = [float(line.split()[4]) for line in lines[top + 1 : -1]]
  assert scores == [6, 6, 5, 5, 4, 3, 3, 2, 1, 0]


TWO_MEET = """
with open('events', 'a') as file:
  file.write('+')
if number < 2:  # Each waits for the other.
  os.open('pipe', os.O_RDONLY if number else os.O_WRONLY)
leave(100)
with open('events', 'a') as file:
  file.write('-')
"""


def test_so_many_runs_at_once_and_no_more(search, tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  code, _, err = search(TWO_MEET, *SETTINGS, '--runs=5', '--parallel=2')
  assert (code, err) == (0, '')
  assert len(rows()) == 5
  events = (tmp_path / 'events').read_text()
  at_once = np.cumsum([{'+': 1, '-': -1}[event] for event in events])
  assert at_once.max() == 2


STOPPED = """
if number == 1 and not workdir.exists():
  os.kill(os.getppid(), {signal})
  stop_when_told()
assert os.getpgid(0) == os.getpid()
leave(100)
"""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def number(request):
  """A signal, with a handler that has to be back in the end."""
  mine = lambda *_: None
  before = signal.signal(request.param, mine)
  yield request.param
  assert signal.signal(request.param, before) is mine


def test_a_signal_stops_the_runs_and_the_same_command_goes_on(search, number):
  body = STOPPED.format(signal=int(number))
  code, out, err = search(body, *SETTINGS, '--runs=3')
  assert (code, err) == (0, '')
  assert started(out) == ['run-000', 'run-001']
  assert 'stopping 1 runs\n' in out
  assert out.endswith(
    '2 of 3 runs are not finished\nto resume: the same command\n'
  )
  assert list(rows()) == ['run-000']
  assert pathlib.Path('s/run-001').exists()
  code, out, err = search(body, *SETTINGS, '--runs=3')
  assert (code, err) == (0, '')
  assert started(out) == ['run-001', 'run-002']
  assert list(rows()) == ['run-000', 'run-001', 'run-002']
  lines = pathlib.Path('s/run-001.log').read_text().splitlines()
  first, second = (line for line in lines if not line.startswith('$ '))
  assert first == second


DEAF = """
if not workdir.exists():
  workdir.mkdir()
  for _ in range(2):
    os.kill(os.getppid(), {signal})
    signal.sigwait([signal.SIGTERM])
  print('told twice')
leave(100)
"""


@pytest.mark.parametrize(
  'number', [signal.SIGINT, signal.SIGTERM], indirect=True
)
def test_a_second_signal_kills_the_runs(search, number, monkeypatch):
  monkeypatch.setattr(signals, '_SAME_SECONDS', 0.0)
  code, out, err = search(DEAF.format(signal=int(number)), *SETTINGS)
  assert (code, err) == (0, '')
  assert started(out) == ['run-000']
  assert 'stopping 1 runs\nkilling 1 runs\n' in out
  assert 'told twice' not in pathlib.Path('s/run-000.log').read_text()
  assert rows() == {}


ORPHANS = """
if not workdir.exists():
  workdir.mkdir()
  if number == 1:
    os.kill(os.getppid(), signal.SIGKILL)
  open('pipe').read()  # Until the test closes it.
leave(100)
"""


def test_a_killed_search_goes_on_when_what_it_left_has_ended(search, tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'script.py').write_text(BEGINNING + ORPHANS)
  arguments = (*SETTINGS, '--runs=3', '--parallel=2')
  killed = subprocess.run(
    [sys.executable, SWEEP, *arguments, '--', 'script.py'],
    capture_output=True,
    timeout=60,
  )
  assert killed.returncode == -signal.SIGKILL
  pause = time.sleep

  def release_them(seconds):
    with contextlib.suppress(OSError):  # Nobody waits there yet, or any more.
      os.close(os.open(tmp_path / 'pipe', os.O_WRONLY | os.O_NONBLOCK))
    pause(seconds)

  with mock.patch.object(time, 'sleep', release_them):
    code, out, err = search(ORPHANS, *arguments)
  assert (code, err) == (0, '')
  assert out.startswith(
    'run-000 runs already; waiting for its end\n'
    'run-001 runs already; waiting for its end\n'
  )
  assert out.count('runs already') == 2
  assert sorted(started(out)) == ['run-000', 'run-001', 'run-002']
  assert started(out)[0] != 'run-002'  # There was no room for it.
  assert {row['status'] for row in rows().values()} == {'finished'}
  assert len(rows()) == 3


CODES = """
if number == 0 and not workdir.exists():
  leave(30, 0.125)
  with (workdir / 'train.csv').open('a') as file:
    file.write('40,')
  sys.exit(3)
if number == 1:
  os.kill(os.getpid(), signal.SIGKILL)
leave(100)
"""


def test_a_failed_run_has_its_exit_code_and_is_tried_again_last(search):
  code, out, err = search(CODES, *SETTINGS)
  assert code == 1
  assert out.endswith('to resume: the same command\n')
  assert err.startswith('error: no run has finished; s/run-000.log ends with: ')
  table = rows()
  assert [row['status'] for row in table.values()] == ['failed', 'failed']
  assert [row['exit_code'] for row in table.values()] == ['3', '-9']
  row = table['run-000']
  assert (row['frames'], row['mean_return']) == ('30', '0.125')
  assert table['run-001']['frames'] == ''
  code, out, err = search(CODES, *SETTINGS, '--runs=3')
  assert (code, err) == (0, '')
  assert started(out) == ['run-002', 'run-000', 'run-001']
  assert 'run-001 failed, exit code -9: see s/run-001.log\n' in out
  assert '1 of 3 runs are not finished\n' in out
  table = rows()
  assert [row['status'] for row in table.values()] == [
    'finished',
    'failed',
    'finished',
  ]
  assert table['run-000']['exit_code'] == '0'


def test_flags_that_the_script_refuses_end_the_search(search):
  refuse = "print('first', 'error: --algo=dqn: allowed: a3c', sep='\\n')"
  code, out, err = search(
    f'{refuse}; sys.exit(2)', *SETTINGS, '--runs=20', '--seeds=2'
  )
  assert (code, started(out)[-1]) == (2, 'run-002-seed2')
  assert err == (
    'error: no run has finished; s/run-000.log ends with: error: --algo=dqn: '
    'allowed: a3c\n'
  )
  assert 'to go on' not in out
  # Nothing has begun, so the mistake can be mended.
  mended = (*SETTINGS, '--log_uniform=gamma:0.5:1')
  code, _, err = search(
    'leave(100)', *mended, after=('script.py', '--algo=a3c')
  )
  assert (code, err) == (0, '')
  assert list(rows()) == ['run-000', 'run-001']
  assert {row['status'] for row in rows().values()} == {'finished'}


def test_values_that_the_script_refuses_do_not_end_the_search(search):
  body = 'leave(100) if number in (1, 5) else sys.exit(2)'
  code, out, err = search(body, *SETTINGS, '--runs=6')
  assert (code, err) == (0, '')
  assert len(started(out)) == 6
  codes = [row['exit_code'] for row in rows().values()]
  assert codes == ['2', '0', '2', '2', '2', '0']


@pytest.mark.parametrize(
  ('ending', 'finished'),
  [
    ('leave(100)', True),
    ('leave(99)', False),
    ('leave(100, evaluated=100, eval_frames=10)', True),
    ('leave(100, evaluated=90, eval_frames=10)', False),
    ('leave(100, eval_frames=10)', False),
    ('leave(40, trained=9.0, seconds=9.0)', True),
    ('leave(40, trained=8.9, seconds=9.0)', False),
    ('pass', False),
  ],
)
def test_what_counts_as_finished(search, ending, finished):
  code, out, err = search(ending, *SETTINGS, '--runs=1')
  assert (code, err) == (0, '')
  assert ('ended before all its frames' in out) != finished
  assert [row['status'] for row in rows().values()] == ['finished'] * finished


def test_a_row_that_was_not_written_to_its_end_is_cut_off(search):
  assert search('leave(100)', *SETTINGS)[0] == 0
  path = pathlib.Path('s/results.csv')
  whole = path.read_text()
  path.write_text(whole[:-5])
  code, out, err = search('leave(100)', *SETTINGS)
  assert (code, err) == (0, '')
  assert started(out) == ['run-001']
  assert path.read_text() == whole


def test_columns_that_somebody_changed_are_refused(search):
  assert search('leave(100)', *SETTINGS)[0] == 0
  path = pathlib.Path('s/results.csv')
  changed = path.read_text().replace(',', ';')
  path.write_text(changed)
  code, out, err = search('leave(100)', *SETTINGS)
  assert (code, out) == (2, '')
  assert err == (
    'error: --folder=s: its results.csv has other columns; allowed: run,'
    'learning_rate,seed,frames,mean_return,eval_mean_return,seconds,status,'
    'exit_code\n'
  )
  assert path.read_text() == changed


def test_runs_have_the_environment_of_the_user(search, monkeypatch):
  monkeypatch.delenv('NPROC', raising=False)
  monkeypatch.setenv('XLA_FLAGS', '--mine')
  body = "assert 'NPROC' not in os.environ\n"
  body += "assert os.environ['XLA_FLAGS'] == '--mine'\nleave(100)"
  code, _, err = search(body, *SETTINGS)
  assert (code, err) == (0, '')
  assert {row['status'] for row in rows().values()} == {'finished'}


def test_one_search_at_a_time(search):
  assert search('leave(100)', *SETTINGS)[0] == 0
  with open('s/sweep.json') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    code, out, err = search('leave(100)', *SETTINGS)
  assert (code, out) == (2, '')
  assert err.startswith('error: --folder=s: another process is using it; ')
  assert err.count('\n') == 1


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
  """A folder with a search that has ended, and other files."""
  path = tmp_path_factory.mktemp('ended')
  (path / 'script.py').write_text(BEGINNING + 'leave(100)')
  with contextlib.chdir(path):
    assert run(*SETTINGS, '--', 'script.py')[0] == 0
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
  """The one line on stderr; nothing may change."""

  def state():
    files = [file for file in path.rglob('*') if file.is_file()]
    return {str(file): file.read_bytes() for file in files}

  before = state()
  with contextlib.chdir(path):
    code, out, err = run(*arguments)
  assert (code, out) == (2, '')
  assert state() == before
  (line,) = err.splitlines()
  assert line.startswith('error: ')
  return line


@pytest.mark.parametrize(
  ('arguments', 'after', 'hint'),
  [
    (['--sweep_seed=2'], [], 'its sweep_seed is 1, not 2'),
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
    (['--frames=3'], [], "Unknown command line flag 'frames'"),
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


def test_a_search_of_real_runs(search):
  catch = str(ROOT / 'experiments/catch.py')
  flags = ('--frames=500', '--threads=1', '--eval_frames=400')
  code, out, err = search('', *SETTINGS, '--runs=1', after=(catch, *flags))
  assert (code, err) == (0, '')
  (row,) = rows().values()
  assert (row['status'], row['frames']) == ('finished', '500')
  for name, column in (
    ('train.csv', 'mean_return'),
    ('eval.csv', 'eval_mean_return'),
  ):
    with open(f's/run-000/{name}', newline='') as file:
      *_, last = csv.DictReader(file)
    assert row[column] == last['mean_return'] != ''
  config = json.loads(pathlib.Path('s/run-000/config.json').read_text())
  assert repr(config['config']['learning_rate']) == row['learning_rate']
  assert (
    started(search('', *SETTINGS, '--runs=1', after=(catch, *flags))[1]) == []
  )


def test_a_folder_that_leads_elsewhere_is_left_alone(search):
  assert search('leave(100)', *SETTINGS)[0] == 0
  pathlib.Path('other').write_text('mine, and no line')
  pathlib.Path('s/results.csv').unlink()
  pathlib.Path('s/results.csv').symlink_to('../other')
  code, out, err = search('leave(100)', *SETTINGS)
  assert (code, out) == (2, '')
  assert 'results.csv is a link that leads out of it' in err
  assert pathlib.Path('other').read_text() == 'mine, and no line'


def test_damaged_rows_are_written_again(search):
  body = 'leave(100)'
  assert search(body, *SETTINGS)[0] == 0
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
    code, out, err = search(body, *SETTINGS)
    assert (code, err) == (0, '')
    assert started(out) == ['run-000']
    assert rows() == whole


def test_figures_that_are_no_numbers_are_left_out(search):
  body = "leave(100, score='nought', trained='\\x00')"
  code, out, err = search(body, *SETTINGS)
  assert (code, err) == (0, '')
  assert rows()['run-001']['mean_return'] == ''
  assert 'mean return unknown' in out


@pytest.mark.parametrize('content', ['{"script": ', '[' * 100_000, 'null', '3'])
def test_a_damaged_plan(search, content):
  folder = pathlib.Path('s')
  folder.mkdir()
  (folder / 'sweep.json').write_text(content)
  code, _, err = search('leave(100)', *SETTINGS)
  if content == 'null':
    assert (code, err) == (0, '')
  else:
    assert code == 2
    (line,) = err.splitlines()
    assert '--folder=s: its sweep.json is not that of a search' in line


def test_a_full_disk_is_one_line_and_the_same_command_resumes(
  search, monkeypatch
):
  def full(self, row):
    raise OSError(errno.ENOSPC, 'No space left on device')

  line = 'the same command resumes the search'
  pathlib.Path('script.py').write_text(BEGINNING + 'leave(100)')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
  try:
    code, _, err = run(*SETTINGS, '--', 'script.py')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert (code, err) == (1, f'error: --folder=s: File too large; {line}\n')
  with monkeypatch.context() as patch:
    patch.setattr(csv.DictWriter, 'writerow', full)
    code, _, err = search('leave(100)', *SETTINGS)
  assert code == 1
  assert err == f'error: --folder=s: No space left on device; {line}\n'
  code, _, err = search('leave(100)', *SETTINGS)
  assert (code, err) == (0, '')
  assert {row['status'] for row in rows().values()} == {'finished'}


def test_a_folder_without_locks(search, monkeypatch):
  def missing(file, how):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', missing)
  code, _, err = search('leave(100)', *SETTINGS)
  assert code == 0
  assert err.count('the file system has no locks') == 2  # One for the runs.
  assert len(rows()) == 2
