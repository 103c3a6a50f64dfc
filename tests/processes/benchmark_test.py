"""experiments/benchmark.py: several measurements, and two checkouts."""

import json
import os
import signal

from programs import ROOT, finish, refused, start_script, succeeded
import pytest
from script_runs import run

from a3c_jax.core import errors
from a3c_jax.reproduce import speed

# Mimics a checkout's script: it tells of itself, and writes figures.
SCRIPT = """
import json, os, pathlib, signal, sys

signal.alarm(60)  # Whatever goes wrong, nothing stays behind.
here = pathlib.Path(__file__).parents[1]
with open('events', 'a') as file:
  file.write(f'{here.name}\\n')
given = dict(text[2:].split('=') for text in sys.argv[1:])
figures = {
  'train_frames_per_second': 10.0 * here.name.count('a'),
  'ratio': 0.5,
  'flags': [name for name in given if name not in ('json', 'workdir')],
  'is_own_code': os.environ['PYTHONPATH'].split(os.pathsep)[0] == str(here),
}
"""
OLD = (
  "pathlib.Path(given['json']).write_text(json.dumps(figures | {'config': 1}))"
)
NEW = (
  "pathlib.Path(given['json']).write_text(json.dumps({'repeats': [figures]}))"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def checkout(folder, name, body):
  path = folder / name / speed.SCRIPT
  path.parent.mkdir(parents=True)
  path.write_text(SCRIPT + body)
  return speed.Checkout(name, folder / name)


def measure(*checkouts, repeats=1, lines=None):
  return speed.measure(
    checkouts,
    ['--threads=2'],
    repeats=repeats,
    environment=os.environ,
    show=(lines if lines is not None else []).append,
  )


def test_checkouts_take_turns_each_with_its_own_code(tmp_path):
  this = checkout(tmp_path, 'this', NEW)
  against = checkout(tmp_path, 'against', OLD)
  lines = []
  measured = measure(this, against, repeats=2, lines=lines)
  events = (tmp_path / 'events').read_text().split()
  assert events == ['this', 'against'] * 2
  assert lines[:2] == [
    'this-1: 0 frames/s, ratio 0.500',
    'against-1: 20 frames/s, ratio 0.500',
  ]
  for name, frames in (('this', 0.0), ('against', 20.0)):
    assert measured[name] == 2 * [
      {
        'train_frames_per_second': frames,
        'ratio': 0.5,
        'flags': ['threads'],
        'is_own_code': True,
      }
    ]


@pytest.mark.parametrize(
  ('body', 'kind', 'message', 'shown'),
  [
    (
      "sys.exit(sys.stderr.write('error: --x: unknown; allowed: y') and 2)",
      errors.UsageError,
      '--against=.*/against: --x: unknown; allowed: y',
      [],
    ),
    (
      "print('first')\nraise OSError('lost')",
      errors.RunError,
      'against-1 failed, exit code 1',
      ['first', 'OSError: lost'],
    ),
    ('', errors.RunError, 'against-1 failed, exit code 0', []),
  ],
)
def test_a_measurement_that_fails_ends_all(
  tmp_path, body, kind, message, shown
):
  failing = checkout(tmp_path, 'against', body)
  lines = []
  with pytest.raises(kind, match=f'^{message}$'):
    measure(checkout(tmp_path, 'this', NEW), failing, repeats=2, lines=lines)
  events = (tmp_path / 'events').read_text().split()
  assert events == ['this', 'against']
  log = '\n'.join(lines[1:])
  assert all(text in log for text in shown)


def test_a_signal_ends_the_measurement_and_its_process(tmp_path):
  body = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getppid(), signal.SIGINT)
signal.sigwait([signal.SIGTERM])
with open('events', 'a') as file:
  file.write('ended\\n')
"""
  with pytest.raises(KeyboardInterrupt):
    measure(checkout(tmp_path, 'this', body + NEW), repeats=2)
  assert (tmp_path / 'events').read_text().split() == ['this', 'ended']


def test_a_checkout_is_measured_against_another(tmp_path):
  command = (
    'benchmark.py --env=catch --threads=1 --seconds=0.4 --json=figures.json '
    f'--against={ROOT}'
  )
  out = succeeded(run(command, cwd=tmp_path))
  content = json.loads((tmp_path / 'figures.json').read_text())
  assert content['command'] == f'python experiments/{command}'
  for checkout in (content, content['against']):
    (figures,) = checkout['repeats']
    assert f'{figures["ratio"]:.3f}' in out
    assert figures['setup_seconds'] > 0
    assert 'config' not in figures
  lines = out.splitlines()
  assert lines[0] == 'this-1 starts: 1 of 1'
  assert lines[-1] == 'median (smallest to largest) of 1'
  quotient = content['repeats'][0]['ratio'] / figures['ratio']
  assert lines[-3].split()[0] == 'ratio'
  assert f'{quotient:.3f} (' in lines[-3]
  assert os.listdir(tmp_path) == ['figures.json']


def test_a_signal_in_training_leaves_no_figures(tmp_path):
  process = start_script(
    'benchmark.py --env=catch --threads=1 --seconds=8 --log_seconds=0.1 '
    '--json=figures.json',
    cwd=tmp_path,
    env={'TMPDIR': str(tmp_path)},
  )
  try:
    while not process.stdout.readline().startswith('return '):
      assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
  finally:
    process.kill()
  assert (code, err) == (130, 'stopped\n')
  assert 'ratio' not in out
  assert os.listdir(tmp_path) == []


def test_ratios_are_drawn(tmp_path):
  pytest.importorskip('matplotlib')
  content = {'command': 'python x', 'date': '2026-01-01T00:00:00+00:00'}
  content |= {'repeats': [{'ratio': 0.5}]}
  (tmp_path / 'a.json').write_text(json.dumps(content))
  out = succeeded(run('benchmark.py --plot=.', cwd=tmp_path))
  assert out == 'picture in ./ratio.png\n'
  assert (tmp_path / 'ratio.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ('--against=.', '--against=.: has no experiments/benchmark.py; allowed: '),
    ('--repeats=0', '--repeats=0: allowed: a whole number >= 1'),
    ('--repeats=2 --workdir=a', '--workdir: allowed without --repeats and'),
    ('--repeats=2 --json=.', '--json=.: is a folder; allowed: a file'),
    ('--plot=.', '--plot=.: holds no JSON file; allowed: '),
    ('--plot=. --repeats=2', '--plot: allowed without --repeats, --against'),
  ],
)
def test_bad_input_ends_in_one_line(tmp_path, flags, message):
  command = f'benchmark.py --env=catch {flags}'
  assert refused(run(command, cwd=tmp_path)).startswith(message)
  assert os.listdir(tmp_path) == []
