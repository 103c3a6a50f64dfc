"""Rendering backends of MuJoCo, and messages where none works."""

import subprocess
import types

import gymnasium
from marks import needs_pictures
import programs
import pytest

from a3c_jax.core import errors
from a3c_jax.envs import mujoco


@pytest.fixture
def no_backend_yet():
  mujoco.backend.cache_clear()
  yield
  mujoco.backend.cache_clear()


@pytest.mark.parametrize(
  'given, works, backend, tried',
  [
    ('', 'egl', 'egl', ['egl']),
    ('', 'osmesa', 'osmesa', ['egl', 'osmesa']),
    ('', 'none', None, ['egl', 'osmesa']),
    ('osmesa', 'egl', None, ['osmesa']),
    ('egl', 'egl', 'egl', ['egl']),
    ('glfw', 'egl', None, []),
  ],
)
def test_the_first_backend_that_works_is_used(
  no_backend_yet, monkeypatch, given, works, backend, tried
):
  found = []

  def probe(command, env, **kwargs):
    found.append(env['MUJOCO_GL'])
    return types.SimpleNamespace(returncode=int(env['MUJOCO_GL'] != works))

  monkeypatch.setattr(mujoco, '_GIVEN', given)
  monkeypatch.setattr(subprocess, 'run', probe)
  assert mujoco.backend() == backend
  assert mujoco.backend() == backend
  assert found == tried  # Once.


@pytest.mark.parametrize(
  'given, message',
  [
    ('', 'egl or osmesa does not work here'),
    ('osmesa', 'osmesa does not work here'),
    ('nonsense', 'MUJOCO_GL=nonsense cannot render without a screen'),
  ],
)
def test_an_error_names_the_backend_that_cannot_render(
  monkeypatch, given, message
):
  monkeypatch.setenv('MUJOCO_GL', given)
  monkeypatch.setattr(mujoco, '_GIVEN', given)
  monkeypatch.setattr(mujoco, 'backend', lambda: None)
  env = gymnasium.make('Hopper-v5')
  with pytest.raises(errors.UsageError) as error:
    mujoco.Camera(env, height=84, width=84, name='Hopper-v5')
  (line,) = str(error.value).splitlines()
  assert line.startswith(f'rendering Hopper-v5: {message}; allowed: MUJOCO_GL=')
  assert 'apt-get install libegl1' in line


STATE_ONLY = """
from a3c_jax.envs import control
env = control.make(control.Options(env='Reacher-v5'))()
print(env.reset(seed=1)[0].shape)
"""


@pytest.mark.parametrize('given', ['nonsense', 'EGL', ''])
def test_an_environment_without_images_needs_no_backend(tmp_path, given):
  env = {'MUJOCO_GL': given}
  result = programs.run('-c', STATE_ONLY, cwd=tmp_path, env=env)
  assert programs.succeeded(result) == '(1, 10)\n'


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
def test_mujoco_may_have_been_imported_before(tmp_path):
  result = programs.run_code(AFTER_MUJOCO, tmp_path)
  assert programs.succeeded(result) == 'True\n'


def test_a_warning_is_logged_once(caplog):
  mujoco.log_warnings_once()
  mujoco._log_once.cache_clear()
  for seconds in ('0.1', '0.2'):
    mujoco._on_warning(f'Nan in QACC at DOF 0. Time = {seconds}.')
  mujoco._on_warning("attribute 'settotalmass' is deprecated and will")
  assert caplog.messages == ['MuJoCo: Nan in QACC at DOF 0.']
