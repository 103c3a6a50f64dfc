"""Scripts of TORCS on a machine without it."""

import programs
from programs import ROOT
import pytest


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
  code, _, err = programs.run(
    *command, cwd=tmp_path, env={'PATH': str(tmp_path)}
  )
  assert code == 2
  assert err == (
    'error: TORCS is not installed; on Debian: apt-get install torcs g++ '
    'libegl-dev libgl-dev\n'
  )
  assert list(tmp_path.iterdir()) == []
