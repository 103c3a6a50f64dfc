"""Processor time, also of processes that go on."""

import os
import subprocess

import control_groups
import programs
import pytest

from a3c_jax.core import cpu

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
  assert '--mine=1' in flags.split() and len(flags.split()) == 2
  cpu.set_up()
  assert os.environ['XLA_FLAGS'] == flags


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
