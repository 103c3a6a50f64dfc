"""What draws, and what is said where nothing can."""

import subprocess
import sys
import types

import gymnasium
import pytest

from a3c_jax import checks
from a3c_jax.envs import simulations

needs_pictures = pytest.mark.skipif(
  simulations.backend() is None, reason='neither EGL nor OSMesa works here'
)


@pytest.fixture
def no_backend_yet():
  simulations.backend.cache_clear()
  yield
  simulations.backend.cache_clear()


def test_the_first_that_works_is_taken(no_backend_yet, monkeypatch):
  tried = []

  def probe(command, env, **kwargs):
    tried.append(env['MUJOCO_GL'])
    return types.SimpleNamespace(returncode=int(env['MUJOCO_GL'] == 'egl'))

  monkeypatch.delenv('MUJOCO_GL', raising=False)
  monkeypatch.setattr(subprocess, 'run', probe)
  assert simulations.backend() == 'osmesa'
  assert simulations.backend() == 'osmesa'
  assert tried == ['egl', 'osmesa']  # Once.


@pytest.mark.parametrize(
  'given, backend', [('egl', 'egl'), ('osmesa', 'osmesa'), ('glfw', None)]
)
def test_the_users_choice_is_not_doubted(
  no_backend_yet, monkeypatch, given, backend
):
  monkeypatch.setenv('MUJOCO_GL', given)
  monkeypatch.setattr(subprocess, 'run', None)
  assert simulations.backend() == backend


def test_nothing_can_draw(monkeypatch):
  monkeypatch.setattr(simulations, 'backend', lambda: None)
  monkeypatch.setenv('MUJOCO_GL', 'disable')
  with pytest.raises(checks.UsageError) as error:
    simulations.Camera(gymnasium.make('Hopper-v5'), height=84, width=84)
  (line,) = str(error.value).splitlines()
  assert line.startswith('pictures of Hopper-v5: neither EGL nor OSMesa works')
  assert 'apt-get install libegl1' in line


AFTER_MUJOCO = """
import os
os.environ.pop('MUJOCO_GL', None)
import mujoco  # Chooses a backend that needs a screen.
from a3c_jax.envs import control
env = control.make(control.Options(env='Reacher-v5', pixels=True))()
print(env.reset(seed=1)[0].max() > 50)
env.close()
"""


@needs_pictures
def test_mujoco_may_have_been_imported_before():
  done = subprocess.run(
    [sys.executable, '-c', AFTER_MUJOCO],
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.stdout, done.stderr) == ('True\n', '')


def test_a_warning_is_told_once(capsys):
  simulations.tell_warnings_once()
  simulations._tell.cache_clear()
  for seconds in ('0.1', '0.2'):
    simulations._on_warning(f'Nan in QACC at DOF 0. Time = {seconds}.')
  simulations._on_warning("attribute 'settotalmass' is deprecated and will")
  told = capsys.readouterr().err
  assert told == 'MuJoCo warns: Nan in QACC at DOF 0.\n'
