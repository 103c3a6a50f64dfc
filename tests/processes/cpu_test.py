"""Processor time, also of processes that go on."""

import os
import pathlib
import subprocess
import sys
import time

import control_groups
import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from a3c_jax import networks
from a3c_jax.algorithms import value_based
from a3c_jax.core import cpu, types

SPIN = """
import time
while time.process_time() < 0.4:
  pass
"""
SPIN_BELOW = f"""
import subprocess, sys
subprocess.run([sys.executable, '-c', {SPIN!r}], check=True)
{SPIN}
print('spun', flush=True)
input()
"""


def test_processes_count_while_they_live_and_afterwards(tmp_path):
  before = cpu.seconds()
  code = ('-c', SPIN_BELOW)
  with programs.start(*code, cwd=tmp_path, stdin=subprocess.PIPE) as process:
    process.stdout.readline()
    living = cpu.seconds() - before
    process.communicate('\n')
  ended = cpu.seconds() - before
  # Two processes; the clock ticks at 100 Hz.
  assert 0.75 < living <= ended + 0.05
  assert ended < 1.5 * living  # And nothing counts twice.


def test_flags_that_a_process_inherits_are_not_repeated(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--mine=1')
  cpu.set_up()
  flags = os.environ['XLA_FLAGS']
  assert flags.split()[-1] == '--mine=1'
  ours = 2 if jax.__version_info__ >= (0, 11) else 1
  assert len(set(flags.split())) == len(flags.split()) == ours + 1
  cpu.set_up()
  assert os.environ['XLA_FLAGS'] == flags


def seconds_of_pool():
  """Returns the processor time of XLA's pool, in seconds."""
  ticks = 0
  for stat in pathlib.Path('/proc/self/task').glob('*/stat'):
    name, _, fields = stat.read_text().rpartition(')')
    if 'XLAEigen' in name:
      ticks += sum(map(int, fields.split()[11:13]))
  return ticks / os.sysconf('SC_CLK_TCK')


def gradient_of_a_segment():
  """Returns the gradient of 8 games and 5 steps, with the small network."""
  obs = jnp.zeros((40, 84, 84, 4), jnp.uint8)
  network = networks.QNetwork(networks.NipsTorso(), 6)
  params = network.init(jax.random.key(0), obs[:1])
  gradient = jax.jit(jax.grad(lambda params: network.apply(params, obs).sum()))
  return lambda: gradient(params)


def gradient_of_a_minibatch():
  """Returns DQN's gradient of 32 transitions, with the large network."""
  torso = networks.NatureTorso(stacked_first=True)
  learner = value_based.dqn(networks.QNetwork(torso, 6))
  obs = np.zeros((32, 2, 4, 84, 84), np.uint8)
  params = learner.init(jax.random.key(0), obs[:1, 0])
  segment = types.Segment(
    obs=jnp.asarray(obs).swapaxes(0, 1),
    a=jnp.zeros((2, 32), jnp.int32),
    r_t=jnp.zeros((1, 32)),
    discount_t=jnp.ones((1, 32)),
    is_first=jnp.zeros((2, 32), bool),
    state=(),
  )
  return lambda: learner.replay_gradients(params, params, segment, jnp.ones(32))


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc')
@pytest.mark.parametrize(
  'make', [gradient_of_a_segment, gradient_of_a_minibatch]
)
def test_the_work_of_a_gradient_is_in_the_calling_thread(make):
  gradient = make()
  jax.block_until_ready(gradient())
  before = time.process_time(), seconds_of_pool()
  while time.process_time() < before[0] + 0.5:
    jax.block_until_ready(gradient())
  # A tick is 0.01 s.
  assert seconds_of_pool() - before[1] <= 0.05


V1 = '4:memory:/m\n3:cpu,cpuacct:/docker/a\n0::/\n'


@pytest.mark.parametrize(
  ('line', 'files', 'expected'),
  [
    ('0::/\n', {}, 16),
    ('0::/\n', {'cpu.max': 'max 100000\n'}, 16),
    ('0::/\n', {'cpu.max': '400000 100000\n'}, 4),
    ('0::/\n', {'cpu.max': '150000 100000\n'}, 2),  # Rounded up.
    ('0::/\n', {'cpu.max': '10000 100000\n'}, 1),
    ('0::/\n', {'cpu.max': '9900000 100000\n'}, 16),
    # The smallest of the group and those it is in.
    ('0::/a/b\n', {'a/cpu.max': '300000 100000', 'a/b/cpu.max': 'max 1'}, 3),
    ('0::/a/b\n', {'a/cpu.max': '300000 100000', 'a/b/cpu.max': '1 1'}, 1),
    ('0::/../x\n', {'cpu.max': '200000 100000'}, 2),
    ('0::/\n', {'cpu.max': 'garbage'}, 16),
    ('0::/\n', {'cpu.max': '100000 0'}, 16),
    ('', {}, 16),
    (
      V1,
      {
        'cpu,cpuacct/docker/a/cpu.cfs_quota_us': '250000\n',
        'cpu,cpuacct/docker/a/cpu.cfs_period_us': '100000\n',
      },
      3,
    ),
    (
      V1,
      {'cpu/cpu.cfs_quota_us': '200000', 'cpu/cpu.cfs_period_us': '100000'},
      2,
    ),
    (V1, {'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 16),
  ],
)
def test_the_quota_of_a_container_counts(
  tmp_path, monkeypatch, line, files, expected
):
  monkeypatch.setattr(
    os, 'sched_getaffinity', lambda process: {*range(16)}, raising=False
  )
  control_groups.write(tmp_path, line, **files)
  assert cpu.cores(tmp_path) == expected
