"""Scripts of TORCS on a machine without it."""

from programs import ROOT
import pytest
import script_runs


@pytest.mark.parametrize(
  'command',
  [
    f'{ROOT}/a3c_jax/envs/torcs/build.py',
    'torcs_racing.py --workdir=run',
    'torcs_scales.py --episodes=2',
    'benchmark.py --env=torcs',
  ],
  ids=['build', 'racing', 'scales', 'benchmark'],
)
def test_scripts_say_in_one_line_what_to_install(
  tmp_path, monkeypatch, command
):
  monkeypatch.setenv('PATH', str(tmp_path))
  code, _, err = script_runs.run(command, cwd=tmp_path)
  assert code == 2
  assert err == (
    'error: TORCS is not installed; on Debian: apt-get install torcs g++ '
    'libegl-dev libgl-dev\n'
  )
  assert list(tmp_path.iterdir()) == []
