"""MuJoCo's simulations: their warnings, and rendering without a screen."""

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

# For tasks whose models have no camera: the point to look at, its distance in
# metres, elevation and azimuth in degrees. In MuJoCo's free camera the robot
# would be a tenth as large.
_CAMERAS = {
  'reacher': ((0, 0, 0), 0.8, -90, 90),
  'inverted_pendulum': ((0, 0, 0.2), 2.4, 0, 90),
  'inverted_double_pendulum': ((0, 0, 0.5), 3.0, 0, 90),
  'pusher': ((0.4, -0.3, -0.2), 2.0, -50, 120),
}
_FRAME_SIZE = 480  # Height and width of a video's frames, pixels.
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco/>')
mujoco.Renderer(model, 8, 8).render()
"""


def _mujoco() -> Any:
  # Imported late: it is optional. Any: its stubs lack much of what is used.
  return importlib.import_module('mujoco')


def simulation(env: gymnasium.Env) -> tuple[Any, Any] | None:
  """MuJoCo's current model and data of an environment; None without MuJoCo.

  Args:
    env: Gymnasium's, or one of dm_control in Shimmy's wrapper.
  """
  base: Any = env.unwrapped
  physics: Any = getattr(base, 'physics', None)
  if hasattr(getattr(physics, 'model', None), 'ptr'):
    return physics.model.ptr, physics.data.ptr
  if hasattr(base, 'mujoco_renderer'):
    return base.model, base.data
  return None


def _simulation(env, name) -> tuple[Any, Any]:
  """As `simulation`, but raises a UsageError without MuJoCo."""
  found = simulation(env)
  if found is None:
    raise errors.UsageError(
      f'--env={name}: no MuJoCo simulation, so no --pixels and no --camera; '
      'allowed: tasks such as InvertedPendulum-v5 or dm_control/walker-walk'
    )
  return found


@functools.cache
def backend() -> str | None:
  """What renders without a screen on this machine: 'egl', 'osmesa' or None.

  If `MUJOCO_GL` is set, only that one is tried. Each is tried in a process of
  its own: after one failed, Python cannot load the other.
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
  """Makes MuJoCo and dm_control render by `backend()`, never to a screen.

  Returns:
    `backend()`.
  """
  name = backend()
  # Both read it when they are first imported.
  os.environ['MUJOCO_GL'] = name or 'disable'
  # Mesa's own threads would compete with the workers' and gain nothing.
  os.environ.setdefault('LP_NUM_THREADS', '0')
  gl_context = sys.modules.get('mujoco.rendering.classic.gl_context')
  if name and gl_context:
    module = importlib.import_module(f'mujoco.{name}')
    if gl_context.GLContext is not module.GLContext:
      importlib.reload(gl_context)
  return name


def log_warnings_once() -> None:
  """Makes MuJoCo's warnings log messages, each kind once, and no file.

  Warnings about deprecated models are dropped: Gymnasium's own models cause
  them.
  """
  _mujoco().set_mju_user_warning(_on_warning)


def _on_warning(message):
  if 'is deprecated' not in message:
    _log_once(message.partition(' Time =')[0])


@functools.cache
def _log_once(message):
  _logger.warning('MuJoCo: %s', message)


class Camera:
  """Renders a simulation, in any thread, but in one at a time.

  A graphics context belongs to the last thread that used it. Another thread
  gets an error or a black image. So `render` releases the context each time.
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
    """Sets up the graphics context.

    Args:
      env: with a `simulation`.
      height: pixels.
      width: pixels.
      name: of the environment, for messages.
      camera: as for `find_camera`.

    Raises:
      UsageError: if there is no simulation or no such camera, or nothing can
        render here.
    """
    self._camera = find_camera(env, camera, name=name)
    self._backend = set_backend()
    if self._backend is None:
      tried = _GIVEN if _GIVEN in BACKENDS else 'egl or osmesa'
      problem = f'{tried} does not work here'
      if _GIVEN not in ('', *BACKENDS):
        problem = f'MUJOCO_GL={_GIVEN} cannot render without a screen'
      raise errors.UsageError(
        f'rendering {name}: {problem}; allowed: MUJOCO_GL=egl, osmesa or not '
        'set, and on Debian: apt-get install libegl1 libegl-mesa0 '
        'libgl1-mesa-dri, or libosmesa6'
      )
    self._env, self._name = env, name
    model, _ = _simulation(env, name)
    # These would take nearly all of the time.
    model.vis.quality.offsamples = 0
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    buffer = model.vis.global_
    buffer.offheight = max(buffer.offheight, height)
    buffer.offwidth = max(buffer.offwidth, width)
    self._renderer: Any = _mujoco().Renderer(model, height, width)
    self._release_context()

  def render(self) -> np.ndarray:
    """An image of the simulation as it is now, [height, width, 3] uint8."""
    _, data = _simulation(self._env, self._name)
    self._renderer.update_scene(data, self._camera)
    pixels = self._renderer.render()
    self._release_context()
    return pixels

  def close(self) -> None:
    """Frees the memory of the graphics context."""
    if self._renderer is not None:
      self._renderer.render()  # Acquires the context, so that it can be freed.
      self._renderer.close()
      self._renderer = None

  def _release_context(self):
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
  """The camera, in the form that `mujoco.Renderer.update_scene` takes.

  Args:
    env: with a `simulation`.
    camera: a name or number of the model's cameras. 'auto' is one that follows
      the robot, if the model has one.
    name: of the environment, for messages.

  Raises:
    UsageError: if there is no simulation, or no such camera.
  """
  mujoco, (model, _) = _mujoco(), _simulation(env, name)
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


class Rendered(gymnasium.Wrapper):
  """Renders MuJoCo in any thread, with a camera that follows the robot."""

  def __init__(self, env: gymnasium.Env, camera: str, name: str):
    super().__init__(env)
    self._camera = Camera(
      env, height=_FRAME_SIZE, width=_FRAME_SIZE, name=name, camera=camera
    )
    self.metadata = {
      'render_modes': [self.render_mode],
      'render_fps': round(1 / env.get_wrapper_attr('dt')),
    }

  @property
  def render_mode(self) -> str:
    return 'rgb_array'

  def render(self) -> Any:
    return self._camera.render()

  def close(self):
    self._camera.close()
    super().close()
