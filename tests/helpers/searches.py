"""Searches of experiments/sweep.py, with tiny scripts that mimic a run."""

import csv
import os
import pathlib

from programs import ROOT
import script_runs

SWEEP = ROOT / 'experiments/sweep.py'
RATE = '--log_uniform=learning_rate:1e-4:1e-2'
SETTINGS = ('--folder=s', RATE, '--runs=2')


# What all these scripts begin with.
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


def stop_at_signal():
  signal.sigwait([signal.SIGTERM])
  leave(40)
  sys.exit()


# Before a signal can come.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
"""


def write(folder, body):
  """Writes the script of a search, which does `body` in the end."""
  (folder / 'script.py').write_text(BEGINNING + body)


def run(*arguments):
  """Exit code, stdout and stderr."""
  return script_runs.run('sweep.py', *arguments, cwd=os.getcwd())


def search(*flags, body='leave(100)', after=('script.py',)):
  """Writes the script, and searches with `SETTINGS` and more flags."""
  write(pathlib.Path(), body)
  return run(*SETTINGS, *flags, '--', *after)


def rows(folder='s'):
  """Those of results.csv, by run; of several the last."""
  with (pathlib.Path(folder) / 'results.csv').open(newline='') as file:
    return {row['run']: row for row in csv.DictReader(file)}


def statuses():
  return [row['status'] for row in rows().values()]


def started(out):
  return [line.split()[0] for line in out.splitlines() if ' starts: ' in line]
