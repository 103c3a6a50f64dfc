"""Scripts of TORCS on a machine without it."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  'command',
  [
    ['-m', 'a3c_jax.envs.torcs.build'],
    [str(ROOT / 'experiments/torcs_racing.py'), '--workdir=run'],
    [str(ROOT / 'experiments/torcs_scales.py'), '--episodes=2'],
    [str(ROOT / 'experiments/benchmark.py'), '--env=torcs'],
  ],
  ids=lambda command: command[-2].rsplit('/')[-1],
)
def test_scripts_say_in_one_line_what_to_install(tmp_path, command):
  done = subprocess.run(
    [sys.executable, *command],
    env={'PATH': str(tmp_path), 'PYTHONPATH': str(ROOT)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr == (
    'error: TORCS is not installed; on Debian: apt-get install torcs g++ '
    'libegl-dev libgl-dev\n'
  )
  assert list(tmp_path.iterdir()) == []
