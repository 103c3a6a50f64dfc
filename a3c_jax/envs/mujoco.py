"""MuJoCo's simulations: their warnings, and pictures without a screen."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np

from a3c_jax.core import errors

_logger = logging.getLogger(__name__)
BACKENDS = ('egl', 'osmesa')
_GIVEN = os.environ.get('MUJOCO_GL', '').strip().lower()

# Of tasks whose models have no camera: what to look at, metres away, degrees
# above and around. The free camera would show a tenth as much of the robot.
_CAMERAS = {
  'reacher': ((0, 0, 0), 0.8, -90, 90),
  'inverted_pendulum': ((0, 0, 0.2), 2.4, 0, 90),
  'inverted_double_pendulum': ((0, 0, 0.5), 3.0, 0, 90),
  'pusher': ((0.4, -0.3, -0.2), 2.0, -50, 120),
}
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco/>')
mujoco.Renderer(model, 8, 8).render()
"""


def simulation(env: gymnasium.Env) -> tuple[Any, Any] | None:
  """MuJoCo's model and data of an environment now; None without a simulation.

  Args:
    env: Gymnasium's, or one of dm_control in Shimmy's wrapper.
  """
  env = env.unwrapped
  physics = getattr(env, 'physics', None)
  if hasattr(getattr(physics, 'model', None), 'ptr'):
    return physics.model.ptr, physics.data.ptr
  if hasattr(env, 'mujoco_renderer'):
    return env.model, env.data
  return None


@functools.cache
def backend() -> str | None:
  """What draws without a screen on this machine: 'egl', 'osmesa' or None.

  Where `MUJOCO_GL` is set, no other. Each is tried in a process of its own,
  since after one failed, Python cannot load the other any more.
  """
  for name in BACKENDS:
    if _GIVEN not in ('', name):
      continue
    probe = subprocess.run(
      [sys.executable, '-c', _PROBE],
      env=os.environ | {'MUJOCO_GL': name},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      check=False,
    )
    if probe.returncode == 0:
      return name
  return None


def set_backend() -> str | None:
  """Has MuJoCo and dm_control use `backend()`, and no screen if there is none.

  Returns:
    The same.
  """
  name = backend()
  # Both look there when they are first imported.
  os.environ['MUJOCO_GL'] = name or 'disable'
  # Mesa's own threads would fight those that play, and help nothing.
  os.environ.setdefault('LP_NUM_THREADS', '0')
  gl_context = sys.modules.get('mujoco.rendering.classic.gl_context')
  if name and gl_context:
    module = importlib.import_module(f'mujoco.{name}')
    if gl_context.GLContext is not module.GLContext:
      importlib.reload(gl_context)
  return name


def tell_warnings_once() -> None:
  """Has MuJoCo print each kind of warning once, and write none to a file.

  That a model of Gymnasium's is written in a deprecated way is not told.
  """
  import mujoco

  mujoco.set_mju_user_warning(_on_warning)


def _on_warning(message):
  if 'is deprecated' not in message:
    _tell(message.partition(' Time =')[0])


@functools.cache
def _tell(message):
  _logger.warning('MuJoCo: %s', message)


class Camera:
  """Draws a simulation, in one thread at a time.

  MuJoCo's graphics belong to the thread that uses them last; another one gets
  an error, or a black picture. So they are given back after every picture.
  """

  def __init__(
    self,
    env: gymnasium.Env,
    *,
    height: int,
    width: int,
    name: str,
    camera: str = 'auto',
  ):
    """Sets the graphics up; draws nothing yet.

    Args:
      env: with a `simulation`.
      height: pixels.
      width: pixels.
      name: of the environment, for what is said of errors.
      camera: as for `find_camera`.

    Raises:
      UsageError: if there is no simulation or no such camera, or nothing can
        draw here.
    """
    self._camera = find_camera(env, camera, name=name)
    self._backend = set_backend()
    if self._backend is None:
      tried = _GIVEN if _GIVEN in BACKENDS else 'egl or osmesa'
      problem = f'{tried} does not work here'
      if _GIVEN not in ('', *BACKENDS):
        problem = f'MUJOCO_GL={_GIVEN} cannot draw without a screen'
      raise errors.UsageError(
        f'pictures of {name}: {problem}; allowed: MUJOCO_GL=egl, osmesa or not '
        'set, and on Debian: apt-get install libegl1 libegl-mesa0 '
        'libgl1-mesa-dri, or libosmesa6'
      )
    import mujoco

    self._env = env
    model, _ = simulation(env)
    # Nearly all of the time would go into these.
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    buffer = model.vis.global_
    buffer.offheight = max(buffer.offheight, height)
    buffer.offwidth = max(buffer.offwidth, width)
    self._renderer = mujoco.Renderer(model, height, width)
    self._give_back()

  def picture(self) -> np.ndarray:
    """The simulation as it is now, [height, width, 3] uint8."""
    _, data = simulation(self._env)
    self._renderer.update_scene(data, self._camera)
    pixels = self._renderer.render()
    self._give_back()
    return pixels

  def close(self) -> None:
    """Gives the graphics' memory back."""
    if self._renderer is not None:
      self._renderer.render()  # Takes them, so that they can be freed.
      self._renderer.close()
      self._renderer = None

  def _give_back(self):
    if self._backend == 'egl':
      from mujoco import egl

      none = egl.EGL.EGL_NO_SURFACE
      egl.EGL.eglMakeCurrent(
        egl.EGL_DISPLAY, none, none, egl.EGL.EGL_NO_CONTEXT
      )
    else:
      from OpenGL import GL, osmesa

      osmesa.OSMesaMakeCurrent(None, None, GL.GL_FLOAT, 0, 0)


def find_camera(env: gymnasium.Env, camera: str, *, name: str) -> Any:
  """What `mujoco.Renderer.update_scene` takes for a camera.

  Args:
    env: with a `simulation`.
    camera: a name or number of the model's cameras; 'auto' is one that shows
      the robot wherever it goes, where there is one.
    name: of the environment, for what is said of errors.

  Raises:
    UsageError: if there is no simulation, or no such camera.
  """
  found = simulation(env)
  if found is None:
    raise errors.UsageError(
      f'--env={name}: no MuJoCo simulation, so no --pixels and no --camera; '
      'allowed: tasks such as InvertedPendulum-v5 or dm_control/walker-walk'
    )
  import mujoco

  model, _ = found
  names = [model.camera(index).name for index in range(model.ncam)]
  if camera and camera in names:
    return camera
  if camera.isdecimal() and int(camera) < model.ncam:
    return int(camera)
  if camera != 'auto':
    known = [each or str(index) for index, each in enumerate(names)]
    raise errors.UsageError(
      f'--camera={camera}: allowed for {name}: {", ".join(["auto", *known])}'
    )
  if names:
    return 'track' if 'track' in names else 0
  view = mujoco.MjvCamera()
  mujoco.mjv_defaultFreeCamera(model, view)
  task = type(env.unwrapped).__module__.rpartition('.')[2].rpartition('_')[0]
  if task in _CAMERAS:
    view.lookat[:], view.distance, view.elevation, view.azimuth = _CAMERAS[task]
  return view
