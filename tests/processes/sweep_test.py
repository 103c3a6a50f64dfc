"""The search over hyperparameters, mostly of tiny scripts that mimic a run."""

import contextlib
import importlib.util
import json
import math
import os
import pathlib
import re
import signal
import time
from unittest import mock

import numpy as np
import programs
from programs import ROOT, succeeded
import pytest
from results import read_record, read_rows
import searches
from searches import rows, started, statuses

from a3c_jax.core import signals
from a3c_jax.reproduce import search as search_lib
from a3c_jax.reproduce import study as study_lib


def open_study(folder, ranges, *, sampler='random', seed=1):
  return study_lib.Study(folder, ranges, sampler=sampler, seed=seed)


RANGES = {'a': (1e-4, 1e-2), 'b': (1.0, math.e)}


def test_a_draw_depends_on_seed_and_number_alone(tmp_path):
  for name in 'xyz':
    (tmp_path / name).mkdir()
  study = open_study(tmp_path / 'x', RANGES, seed=5)
  values = [study.values(number) for number in range(4)]
  assert len({tuple(each.values()) for each in values}) == 4
  # Scores do not matter, nor whether the study was closed.
  other = open_study(tmp_path / 'y', RANGES, seed=5)
  assert other.values(1) == values[1]
  other.tell(0, 1.0)
  again = open_study(tmp_path / 'y', RANGES, seed=5)
  assert again.values(3) == values[3]
  assert again.values(0) == values[0]
  another = open_study(tmp_path / 'z', RANGES, seed=6)
  assert another.values(0) != values[0]


def test_logarithms_of_draws_are_uniform(tmp_path):
  study = open_study(tmp_path, {'x': (1e-4, 1e-2)})
  draws = [study.values(number)['x'] for number in range(250)]
  assert min(draws) >= 1e-4 and max(draws) <= 1e-2
  # A fifth of them in each fifth; the deviation of a count is 6.3.
  counts, _ = np.histogram(np.log10(draws), 5, (-4, -2))
  assert np.abs(counts - 50).max() < 20


def test_values_have_4_digits_and_stay_in_the_range(tmp_path):
  (tmp_path / 'narrow').mkdir()
  study = open_study(tmp_path, RANGES)
  for number in range(10):
    value = study.values(number)['a']
    assert value == float(f'{value:.3e}')
  narrow = open_study(tmp_path / 'narrow', {'x': (1.00004, 1.00006)})
  for number in range(20):
    assert 1.00004 <= narrow.values(number)['x'] <= 1.00006


def test_tpe_draws_near_what_scores_best(tmp_path):
  ranges = {'x': (1e-4, 1e-2)}
  study = open_study(tmp_path, ranges, sampler='tpe')
  for number in range(40):
    value = study.values(number)['x']
    study.tell(number, -((math.log10(value) + 3) ** 2))
  far = [abs(math.log10(study.values(n)['x']) + 3) for n in range(40)]
  assert np.mean(far[20:]) < 0.6 * np.mean(far[:10])


def test_a_setting_below_the_median_is_worse(tmp_path):
  study = open_study(tmp_path, RANGES)
  for number in range(6):  # Of the first five none is pruned.
    study.values(number)
    study.report(number, [(0.1, float(number)), (0.5, float(number))])
    assert not study.is_worse(number)
    study.tell(number, float(number))
  study.values(7)
  study.report(6, [(0.1, -9.0), (0.5, 3.0)])  # The median of 0 to 5 is 2.5.
  assert not study.is_worse(6)
  study.report(6, [(0.1, -9.0), (0.5, -9.0)])  # Each step is reported once.
  assert not study.is_worse(6)
  study.report(7, [(0.52, 2.0)])
  assert study.is_worse(7)
  study.prune(7)
  assert not study.is_worse(7)  # It has ended.


def test_importances_are_shares_of_what_matters(tmp_path):
  study = open_study(tmp_path, {'a': (1e-4, 1e-2), 'b': (1e-4, 1e-2)})
  assert study.importances() == {}
  for number in range(60):
    study.tell(number, math.log10(study.values(number)['a']))
  shares = study.importances()
  assert sum(shares.values()) == pytest.approx(1)
  assert shares['a'] > 0.8


def test_every_run_gets_its_flags_and_a_row(search):
  succeeded(
    search(
      '--log_uniform=entropy_cost:1e-5:1e-2,value_cost:0.1:1',
      '--seeds=2',
      '--parallel=4',
      body='leave(100, number, evaluated=120 - number, eval_frames=50)',
      after=('script.py', '--algo=a3c'),
    )
  )
  table = rows()
  assert set(table) == {'run-000', 'run-000-seed2', 'run-001', 'run-001-seed2'}
  names = ('learning_rate', 'entropy_cost', 'value_cost')
  ranges = search_lib.read_ranges(
    ['learning_rate:1e-4:1e-2', 'entropy_cost:1e-5:1e-2', 'value_cost:0.1:1']
  )
  assert tuple(ranges) == names
  study = open_study(pathlib.Path('s'), ranges)
  for name, row in table.items():
    drawn = study.values(int(name[4:7]))
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
  columns = 'frames mean_return eval_mean_return seconds status exit_code'
  assert list(table['run-000']) == ['run', *names, 'seed', *columns.split()]


def test_more_runs_and_seeds_later_leave_finished_ones_alone(search):
  succeeded(search())
  before = rows()
  out = succeeded(search('--runs=3', '--seeds=2'))
  names = 'run-000-seed2 run-001-seed2 run-002 run-002-seed2'
  assert started(out) == names.split()
  after = rows()
  assert len(after) == 6
  assert before.items() <= after.items()
  for number in range(3):
    one, two = after[f'run-{number:03}'], after[f'run-{number:03}-seed2']
    assert one['learning_rate'] == two['learning_rate']
  assert len({row['learning_rate'] for row in after.values()}) == 3
  assert started(search()[1]) == []


def test_the_table_has_the_ten_best_first(search):
  code, out, _ = search(
    '--runs=12',
    '--parallel=6',
    body="leave(100, 'nan' if number == 3 else 10 * number % 7)",
  )
  assert code == 0
  lines = out.splitlines()
  top = lines.index('results in s/results.csv') - 11
  assert lines[top].split()[:3] == ['run', 'learning_rate', 'seed']
  # 10 n mod 7 of n = 0, 1, 2, ... is 0, 3, 6, 2, 5, 1, 4, 0, 3, 6, 2, 5.
  scores = [float(line.split()[4]) for line in lines[top + 1 : -1]]
  assert scores == [6, 6, 5, 5, 4, 3, 3, 2, 1, 0]


def test_a_table_of_settings_has_means_and_intervals_over_seeds(search):
  code, out, _ = search(
    '--runs=3',
    '--seeds=2',
    body="leave(100, number + 4 * (given['seed'] == '2'))",
  )
  assert code == 0
  lines = out.splitlines()
  top = next(n for n, line in enumerate(lines) if '[95% interval]' in line)
  assert lines[top].split() == [
    'learning_rate',
    'mean_return',
    '[95%',
    'interval]',
  ]
  # Seed 1 of run n scores n, and seed 2 scores n + 4.
  assert [line.split(maxsplit=1)[1] for line in lines[top + 1 : -1]] == [
    '4.00 [2.00, 6.00] of 2 runs',
    '3.00 [1.00, 5.00] of 2 runs',
    '2.00 [0.00, 4.00] of 2 runs',
  ]


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
  succeeded(search('--runs=5', '--parallel=2', body=TWO_MEET))
  assert len(rows()) == 5
  events = (tmp_path / 'events').read_text()
  at_once = np.cumsum([{'+': 1, '-': -1}[event] for event in events])
  assert at_once.max() == 2


STOPPED = """
if number == 1 and not workdir.exists():
  os.kill(os.getppid(), {signal})
  stop_at_signal()
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


def test_a_signal_stops_the_runs_and_the_same_command_resumes(search, number):
  body = STOPPED.format(signal=int(number))
  out = succeeded(search('--runs=3', body=body))
  assert started(out) == ['run-000', 'run-001']
  assert 'stopping 1 runs\n' in out
  assert out.endswith(
    '2 of 3 runs are not finished\nto resume: the same command\n'
  )
  assert list(rows()) == ['run-000']
  assert pathlib.Path('s/run-001').exists()
  out = succeeded(search('--runs=3', body=body))
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
  print('two signals')
leave(100)
"""


@pytest.mark.parametrize(
  'number', [signal.SIGINT, signal.SIGTERM], indirect=True
)
def test_a_second_signal_kills_the_runs(search, number, monkeypatch):
  monkeypatch.setattr(signals, '_SAME_SECONDS', 0.0)
  out = succeeded(search(body=DEAF.format(signal=int(number))))
  assert started(out) == ['run-000']
  assert 'stopping 1 runs\nkilling 1 runs\n' in out
  assert 'two signals' not in pathlib.Path('s/run-000.log').read_text()
  assert rows() == {}


ORPHANS = """
if not workdir.exists():
  workdir.mkdir()
  if number == 1:
    os.kill(os.getppid(), signal.SIGKILL)
  open('pipe').read()  # Until the test closes it.
leave(100)
"""


def test_a_killed_search_resumes_when_its_runs_have_ended(search, tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  searches.write(tmp_path, ORPHANS)
  flags = ('--runs=3', '--parallel=2')
  code, _, _ = programs.run(
    *(searches.SWEEP, *searches.SETTINGS, *flags, '--', 'script.py'),
    cwd=tmp_path,
  )
  assert code == -signal.SIGKILL
  pause = time.sleep

  def release_them(seconds):
    with contextlib.suppress(OSError):  # Nobody waits there yet, or any more.
      os.close(os.open(tmp_path / 'pipe', os.O_WRONLY | os.O_NONBLOCK))
    pause(seconds)

  with mock.patch.object(time, 'sleep', release_them):
    out = succeeded(search(*flags, body=ORPHANS))
  assert out.startswith(
    'run-000 runs already; waiting for its end\n'
    'run-001 runs already; waiting for its end\n'
  )
  assert out.count('runs already') == 2
  assert sorted(started(out)) == ['run-000', 'run-001', 'run-002']
  assert started(out)[0] != 'run-002'  # There was no room for it.
  assert statuses() == ['finished'] * 3


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
  code, out, err = search(body=CODES)
  assert code == 1
  assert out.endswith('to resume: the same command\n')
  assert err.startswith('error: no run has finished; s/run-000.log ends with: ')
  table = rows()
  assert statuses() == ['failed', 'failed']
  assert [row['exit_code'] for row in table.values()] == ['3', '-9']
  row = table['run-000']
  assert (row['frames'], row['mean_return']) == ('30', '0.125')
  assert table['run-001']['frames'] == ''
  out = succeeded(search('--runs=3', body=CODES))
  assert started(out) == ['run-002', 'run-000', 'run-001']
  assert 'run-001 failed, exit code -9: see s/run-001.log\n' in out
  assert '1 of 3 runs are not finished\n' in out
  assert statuses() == ['finished', 'failed', 'finished']
  assert rows()['run-000']['exit_code'] == '0'


def test_flags_that_the_script_refuses_end_the_search(search):
  refuse = "print('first', 'error: --algo=dqn: allowed: a3c', sep='\\n')"
  code, out, err = search(
    '--runs=20', '--seeds=2', body=f'{refuse}; sys.exit(2)'
  )
  assert (code, started(out)[-1]) == (2, 'run-002-seed2')
  assert err == (
    'error: no run has finished; s/run-000.log ends with: error: --algo=dqn: '
    'allowed: a3c\n'
  )
  assert 'to resume' not in out
  # No run has started, so the mistake can be corrected.
  gamma = '--log_uniform=gamma:0.5:1'
  succeeded(search(gamma, after=('script.py', '--algo=a3c')))
  assert list(rows()) == ['run-000', 'run-001']
  assert statuses() == ['finished'] * 2


def test_values_that_the_script_refuses_do_not_end_the_search(search):
  body = 'leave(100) if number in (1, 5) else sys.exit(2)'
  out = succeeded(search('--runs=6', body=body))
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
  out = succeeded(search('--runs=1', body=ending))
  assert ('ended before all its frames' in out) != finished
  assert statuses() == ['finished'] * finished


def test_runs_have_the_environment_of_the_user(search, monkeypatch):
  monkeypatch.delenv('NPROC', raising=False)
  monkeypatch.setenv('XLA_FLAGS', '--mine')
  body = "assert 'NPROC' not in os.environ\n"
  body += "assert os.environ['XLA_FLAGS'] == '--mine'\nleave(100)"
  succeeded(search(body=body))
  assert statuses() == ['finished'] * 2


PRUNED = """
score = number if number < 6 else -5.0
leave(50, score)
if number == 6:
  stop_at_signal()
with (workdir / 'train.csv').open('a') as file:
  file.write(f'100,9.0,{score}\\n')
"""


def test_a_run_that_is_worse_is_pruned_and_stays_so(search, monkeypatch):
  monkeypatch.setattr(search_lib, '_LOOK_SECONDS', 0.0)
  out = succeeded(search('--runs=7', '--prune', body=PRUNED))
  assert 'run-006 pruned, mean return ' in out
  assert statuses() == ['finished'] * 6 + ['pruned']
  assert started(succeeded(search('--runs=7', '--prune', body=PRUNED))) == []


def test_the_importance_of_each_flag_is_printed_and_drawn(search):
  pytest.importorskip('matplotlib')
  out = succeeded(
    search(
      '--runs=12',
      '--parallel=6',
      '--log_uniform=gamma:0.5:1',
      body="leave(100, float(given['gamma']))",
    )
  )
  line = next(x for x in out.splitlines() if x.startswith('importance: '))
  assert sorted(re.findall(r'(\w+) \d+%', line)) == ['gamma', 'learning_rate']
  assert pathlib.Path('s/results.png').read_bytes().startswith(b'\x89PNG')


def test_a_search_by_tpe_resumes(search):
  flags = ('--sampler=tpe', '--runs=3')
  succeeded(search(*flags))
  before = rows()
  succeeded(search(*flags, '--runs=5'))
  assert before.items() <= rows().items()
  assert len(rows()) == 5


def test_a_search_without_optuna_is_refused(search, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    'importlib.util.find_spec',
    lambda name: None if name == 'optuna' else find(name),
  )
  line = programs.refused(search())
  assert line.startswith('a search: optuna is not installed; pip install')


def test_a_search_of_real_runs(search):
  flags = '--frames=500 --threads=1 --eval_frames=400'
  command = (str(ROOT / 'experiments/catch.py'), *flags.split())
  succeeded(search('--runs=1', after=command))
  (row,) = rows().values()
  assert (row['status'], row['frames']) == ('finished', '500')
  for name, column in (
    ('train.csv', 'mean_return'),
    ('eval.csv', 'eval_mean_return'),
  ):
    *_, last = read_rows(pathlib.Path('s/run-000') / name)
    assert row[column] == last['mean_return'] != ''
  config = read_record(pathlib.Path('s/run-000'))
  assert repr(config['config']['learning_rate']) == row['learning_rate']
  assert started(succeeded(search('--runs=1', after=command))) == []
