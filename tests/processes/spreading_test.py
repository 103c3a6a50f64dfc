"""Searches and plans whose runs are spread over a cluster of Ray."""

import json
import os
import pathlib
import signal
import subprocess
import threading

from marks import needs_ray
import processes
import programs
from programs import ROOT, refused, succeeded
import pytest
from results import read_record, read_rows
import script_runs
import searches
from searches import rows, started, statuses

from a3c_jax.core import signals
from a3c_jax.reproduce import machine

CATCH = str(ROOT / 'experiments/catch.py')
QUICK = ('--frames=500', '--threads=1', '--eval_frames=400')
# A Ray of two CPUs, until its standard input ends.
CLUSTER = """
import sys
from a3c_jax.runtimes.cluster import engine

with engine.connected('local', parts=2, cpus=1):
  import ray
  print(ray.get_runtime_context().gcs_address, flush=True)
  sys.stdin.read()
"""
# Waits for a signal in its first life; the test has its number then.
WAIT = """
if number == 0 and not workdir.exists():
  leave(30)
  pathlib.Path('{0}/pid').write_text(f'{{os.getpid()}}')
  signal.sigwait([signal.SIGTERM])
  leave(40)
  pathlib.Path('{0}/stopped').write_text('')
  sys.exit()
assert number or pathlib.Path('{0}/stopped').exists()
leave(100)
"""


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
  """A Ray on this machine: its process and its address."""
  process = programs.start(
    '-c',
    CLUSTER,
    cwd=tmp_path_factory.mktemp('cluster'),
    stdin=subprocess.PIPE,
    stderr=None,
  )
  try:
    yield process, process.stdout.readline().strip()
  finally:
    process.communicate()


@pytest.fixture
def spread(search, cluster, monkeypatch):
  """`searches.search` on the machines of the cluster."""
  _, address = cluster
  monkeypatch.setenv('RAY_AUTH_MODE', 'disabled')  # As for that cluster.

  def spread_search(*flags, **given):
    return search(f'--address={address}', *flags, **given)

  return spread_search


@pytest.fixture
def another_root(tmp_path, monkeypatch):
  """The machines see another file system than the test does."""
  sees = machine.Machine.sees

  def sees_below(self, marker, content, log):
    return sees(self, f'{tmp_path}/another{marker}', content, log)

  # Ray gets the class by value, and so this function.
  monkeypatch.setattr(machine.Machine, 'sees', sees_below)


def pid_of_run(tmp_path):
  path = tmp_path / 'pid'
  processes.wait_until(lambda: path.exists() and path.read_text())
  return int(path.read_text())


def nothing_else_is_here():
  """Besides what a search without Ray leaves."""
  found = {path.suffix for path in pathlib.Path('s').iterdir()}
  # A picture is there once a run is finished.
  assert found - {'.png'} == {'', '.command', '.csv', '.json', '.log'}


@needs_ray
@pytest.mark.long
def test_runs_of_a_local_ray_are_those_of_local_processes(search):
  command = (CATCH, *QUICK, '--checkpoint_frames=200')
  out = succeeded(search('--runs=1', '--address=local', after=command))
  assert started(out) == ['run-000']
  assert 'run-000 runs on ' in out
  assert 'run-000 finished, mean return ' in out
  (there,) = read_rows(pathlib.Path('s/run-000/eval.csv'))
  nothing_else_is_here()
  succeeded(search('--runs=1', '--folder=here', after=command))
  (here,) = read_rows(pathlib.Path('here/run-000/eval.csv'))
  assert here['mean_return'] == there['mean_return']
  folders = [
    {
      path.relative_to(folder).as_posix().split('.')[0]
      for path in pathlib.Path(folder).rglob('*')
    }
    for folder in ('here', 's')
  ]
  assert folders[0] == folders[1]


@needs_ray
def test_codes_of_runs_and_another_try(spread):
  body = """
if not workdir.exists():
  workdir.mkdir()
  if number == 0:
    sys.exit(3)
  if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  sys.exit(2)
leave(100)
"""
  flags = ('--runs=3', '--parallel=3')
  code, out, err = spread(*flags, body=body)
  assert code == 1
  assert err.startswith('error: no run has finished; s/run-00')
  codes = [rows()[f'run-00{number}']['exit_code'] for number in range(3)]
  assert codes == ['3', '-9', '2']
  succeeded(spread(*flags, body=body))
  assert statuses() == ['finished'] * 3
  lines = pathlib.Path('s/run-000.log').read_text().splitlines()
  assert len(lines) == 2
  given = json.loads(lines[0])
  assert given[-1] == f'--workdir={os.getcwd()}/s/run-000'


@needs_ray
def test_flags_that_the_script_refuses_end_the_search(spread):
  code, out, err = spread('--runs=20', body='print("error: no"); sys.exit(2)')
  assert (code, len(started(out))) == (2, 3)
  assert (
    err == 'error: no run has finished; s/run-000.log ends with: error: no\n'
  )


@needs_ray
def test_a_signal_stops_runs_and_those_that_wait_for_a_cpu(spread, tmp_path):
  body = f"""
if not workdir.exists():
  os.kill({os.getpid()}, signal.SIGINT)
  stop_at_signal()
leave(100)
"""
  flags = ('--runs=3', '--parallel=2', '--cpus_per_run=2')
  out = succeeded(spread(*flags, body=body))
  assert started(out) == ['run-000', 'run-001']
  assert 'stopping 2 runs\n' in out
  assert out.count(' runs on ') == 1
  assert rows() == {}
  assert out.endswith(
    '3 of 3 runs are not finished\nto resume: the same command\n'
  )
  nothing_else_is_here()


@needs_ray
def test_a_second_signal_kills_the_runs(spread, monkeypatch):
  monkeypatch.setattr(signals, '_SAME_SECONDS', 0.0)
  body = f"""
for _ in range(2):
  os.kill({os.getpid()}, signal.SIGINT)
  signal.sigwait([signal.SIGTERM])
print('two signals')
"""
  out = succeeded(spread('--runs=1', body=body))
  assert 'stopping 1 runs\nkilling 1 runs\n' in out
  assert 'two signals' not in pathlib.Path('s/run-000.log').read_text()
  assert rows() == {}


@needs_ray
def test_a_folder_that_the_machine_does_not_see_is_brought_back(
  spread, another_root, tmp_path
):
  body = f"""
print('scratch', workdir.parent)
if not workdir.exists():
  os.kill({os.getpid()}, signal.SIGINT)
  stop_at_signal()
leave(100)
"""
  succeeded(spread('--runs=1', body=body))
  assert rows() == {}
  nothing_else_is_here()
  *_, row = read_rows(pathlib.Path('s/run-000/train.csv'))
  assert row['frames'] == '40'
  # A machine gets what the first one has left.
  succeeded(spread('--runs=1', body=body))
  assert statuses() == ['finished']
  assert rows()['run-000']['frames'] == '100'
  nothing_else_is_here()
  lines = pathlib.Path('s/run-000.log').read_text().splitlines()
  folders = {
    line.removeprefix('scratch ')
    for line in lines
    if line.startswith('scratch ')
  }
  assert len(folders) == 2
  assert str(tmp_path / 's') not in folders
  assert not any(map(os.path.exists, folders))


@needs_ray
def test_runs_of_a_killed_search_stop_and_the_same_command_resumes(
  spread, cluster, tmp_path
):
  _, address = cluster
  body = WAIT.format(tmp_path)
  searches.write(tmp_path, body)
  flags = ('--runs=2', f'--address={address}')
  process = programs.start(
    *(searches.SWEEP, *searches.SETTINGS, *flags, '--', 'script.py'),
    cwd=tmp_path,
  )
  with process:
    run = pid_of_run(tmp_path)
    process.kill()
  # It does not start again before the killed search's run has ended.
  out = succeeded(spread('--runs=2', body=body))
  assert (tmp_path / 'stopped').exists()
  assert processes.parent_of(run) is None
  assert 'run-000' in started(out)
  assert statuses() == ['finished'] * 2
  nothing_else_is_here()


@needs_ray
def test_a_run_whose_process_of_ray_ends_has_failed_and_resumes(
  spread, cluster, tmp_path
):
  ray, _ = cluster

  def end_process_of_ray():
    pid_of_run(tmp_path)
    (actor,) = (
      number
      for number in processes.below(ray.pid)
      if b'ray::Machine' in pathlib.Path(f'/proc/{number}/cmdline').read_bytes()
    )
    os.kill(actor, signal.SIGKILL)

  thread = threading.Thread(target=end_process_of_ray)
  thread.start()
  body = WAIT.format(tmp_path)
  code, _, err = spread('--runs=1', body=body)
  thread.join()
  assert code == 1
  assert err.startswith('error: no run has finished; s/run-000.log ends with: ')
  assert ' or its process of Ray has ended, Actor' in err
  assert rows()['run-000']['exit_code'] == '-9'
  succeeded(spread('--runs=1', body=body))
  assert (tmp_path / 'stopped').exists()
  assert statuses() == ['finished']


@needs_ray
def test_a_figure_of_runs_that_are_brought_back(
  spread, another_root, cluster, tmp_path
):
  pytest.importorskip('matplotlib')
  _, address = cluster
  command = (
    'paper.py fig1 --games=catch --scale=0.01 --threads=1 --methods=a3c '
    f'--learning_rates=3e-3 --workdir=results --address={address} -- '
    '--checkpoint_frames=500'
  )
  out = succeeded(script_runs.run(command, cwd=tmp_path))
  assert ' runs on ' in out
  assert out.endswith('results/fig1.csv and .png\n')
  assert {row['game'] for row in read_rows(tmp_path / 'results/fig1.csv')} == {
    'catch'
  }
  (run,) = (
    path for path in (tmp_path / 'results/runs').iterdir() if path.is_dir()
  )
  assert read_record(run)['config']['frames'] == 2000
  assert any((run / 'checkpoints').iterdir())
  log = run.with_name(f'{run.name}.log').read_text()
  *_, before, last = log.splitlines()
  assert before.startswith('results in ')
  assert str(tmp_path) not in before
  assert last == f'brought back to results/runs/{run.name}'
  # In its place it is a run like any other: nothing is left to do.
  out = succeeded(script_runs.run(command, cwd=tmp_path))
  assert 'starts' not in out


@needs_ray
def test_a_cluster_without_room_is_refused(spread):
  line = refused(spread('--cpus_per_run=3'))
  assert line.endswith(
    ': there is room for 0 of 1 runs with 3 CPUs each, since its machines have '
    'so many: 2; allowed: a lower --cpus_per_run'
  )
  assert list(pathlib.Path('s').iterdir()) == []


@needs_ray
def test_a_machine_that_lacks_something_is_refused(spread, monkeypatch):
  look = lambda scripts, environment: f'vm has no file {scripts[0]}'
  monkeypatch.setattr(machine, 'look', look)
  line = refused(spread())
  assert line.endswith(
    f': vm has no file {os.getcwd()}/script.py; allowed: machines that have '
    'this package, and the script at the same path'
  )
  assert list(pathlib.Path('s').iterdir()) == []


@needs_ray
def test_a_machine_that_comes_later_and_lacks_something(spread, monkeypatch):
  monkeypatch.setattr(
    machine.Machine, 'look', lambda self, scripts, environment: 'vm has none'
  )
  code, _, err = spread('--runs=1')
  assert code == 2
  assert err.endswith('s/run-000.log ends with: error: vm has none\n')


@pytest.mark.parametrize(
  ('flag', 'line'),
  [
    ('--address=here', '--address=here: allowed: local, or HOST:PORT of a r'),
    ('--cpus_per_run=0', '--cpus_per_run=0: allowed: '),
    ('--cpus_per_run=2', '--cpus_per_run=2: allowed: with --address'),
  ],
)
def test_bad_addresses_are_refused(search, flag, line):
  assert refused(search(flag)).startswith(line)
  assert not pathlib.Path('s').exists()


def test_without_an_address_nothing_loads_ray(search, tmp_path):
  searches.write(tmp_path, 'leave(100)')
  code = f"""
import runpy, sys
sys.path.append({str(ROOT / 'experiments')!r})
sys.argv = {['sweep.py', *searches.SETTINGS, '--', 'script.py']}
try:
  runpy.run_path({str(searches.SWEEP)!r}, run_name='__main__')
except SystemExit as end:
  assert not end.code
print('ray' in sys.modules)
"""
  out = succeeded(programs.run('-c', code, cwd=tmp_path))
  assert out.endswith('results in s/results.csv\nFalse\n')
