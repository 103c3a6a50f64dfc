"""Processor time, also of processes that go on."""

import subprocess
import sys

from a3c_jax import cpu

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


def test_processes_count_while_they_live_and_afterwards():
  before = cpu.seconds()
  with subprocess.Popen(
    [sys.executable, '-c', SPIN_BELOW],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    process.stdout.readline()
    living = cpu.seconds() - before
    process.communicate('\n')
  ended = cpu.seconds() - before
  # Two processes; the clock ticks at 100 Hz.
  assert 0.75 < living <= ended + 0.05
  assert ended < 1.5 * living  # And nothing counts twice.
