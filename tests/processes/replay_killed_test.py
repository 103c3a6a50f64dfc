"""Processes that are killed while they train with a replay memory."""

import signal

import programs
import pytest
from replay_runs import newest, run_small, same_memory
from results import same_episodes
import script_runs
from stores import assert_same

GIVEN = {
  'algo': 'prioritized_dqn',
  'replay_minibatches': 3,
  'checkpoint_frames': 50,
}
# Kills itself at one call of a function, counted from 1.
KILLED = f"""
import itertools
import os
import pathlib
import signal
import sys
from a3c_jax.core import cpu
from a3c_jax.runtimes import replaying
from replay_runs import run_small

_, owner, name, number = sys.argv
owner = {{'os': os, 'Replayer': replaying.Replayer}}[owner]
function, numbers = getattr(owner, name), itertools.count(1)

def count_and_call(*args):
  if next(numbers) == int(number):
    os.kill(os.getpid(), signal.SIGKILL)
  return function(*args)

setattr(owner, name, count_and_call)
cpu.set_up()
run_small(pathlib.Path('killed'), **{GIVEN})
"""


@pytest.mark.long
def test_killed_again_and_again_a_run_ends_as_if_never_killed(tmp_path):
  # Within a minibatch, and between any two steps of writing a checkpoint.
  for owner, name, number in (
    ('os', 'fsync', 20),
    ('Replayer', 'learn', 101),
    ('os', 'replace', 11),
    ('os', 'fsync', 12),
  ):
    code, _, err = programs.run('-c', KILLED, owner, name, number, cwd=tmp_path)
    assert code == -signal.SIGKILL, err
  result = run_small(tmp_path / 'killed', **GIVEN)
  assert result.finished
  whole = run_small(tmp_path / 'whole', **GIVEN)
  assert (result.frames, result.updates) == (whole.frames, whole.updates)
  folders = [tmp_path / name for name in ('killed', 'whole')]
  same_episodes(*folders)
  same_memory(*folders)
  # Optimizer and worker, too.
  assert_same(*[newest(folder).arrays for folder in folders])


@pytest.mark.parametrize(
  ('flags', 'named'),
  [
    (('--algo=dqn', '--runtime=queues'), '--runtime=queues'),
    (('--algo=a3c', '--replay=shared'), '--replay'),
    (('--algo=pgql', '--dueling'), '--dueling'),
  ],
)
def test_settings_of_replay_are_refused_in_one_line(tmp_path, flags, named):
  line = programs.refused(
    script_runs.run('-m a3c_jax train catch', *flags, cwd=tmp_path)
  )
  assert line.startswith(named)
