"""ViZDoom's engine: a process that simulates and renders a maze."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import pathlib
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from typing import Any, NamedTuple
import weakref

import gymnasium
import numpy as np

from a3c_jax.core import errors
from a3c_jax.envs.labyrinth import supervisor

TICS_PER_SECOND = 35  # Of Doom's clock.
HEIGHT, WIDTH = 120, 160  # Pixels of the smallest image that it renders.
_MAP = 'maze.wad'
_START_SECONDS = 10.0  # To wait for an engine that starts, after Ctrl-C.


class State(NamedTuple):
  """The engine's state after an action."""

  image: np.ndarray  # [HEIGHT, WIDTH, 3] uint8
  items: int  # actors with +COUNTITEM taken since the map was loaded
  secrets: int  # likewise, with +COUNTSECRET
  x: float  # units of the map
  y: float
  angle: float  # degrees, 0 is along x, 90 along y


class Engine:
  """One process of ViZDoom.

  It ends with `close`, when this object is garbage-collected, and when this
  process ends in any way. Its files are in a temporary folder of its own. A
  start that fails leaves a thread and its supervisor (11 MB) until this process
  ends.
  """

  def __init__(self, resources: bytes):
    """Starts the process.

    Args:
      resources: a WAD with actors, sprites and textures.

    Raises:
      UsageError: if programs cannot run in the folder for temporary files.
      RunError: if it does not start, with the end of its output.
    """
    import vizdoom

    self._folder = pathlib.Path(tempfile.mkdtemp(prefix='a3c_jax-doom-'))
    self._ended = self._folder / supervisor.ENDED
    self._output = self._folder / supervisor.OUTPUT
    self._game: Any = vizdoom.DoomGame()
    self._end = weakref.finalize(self, shutil.rmtree, self._folder, True)
    with errors.naming(f'TMPDIR={self._folder.parent}'):
      (self._folder / 'resources.wad').write_bytes(resources)
      launcher = self._launcher()
    self._configure(launcher)
    self._start()

  def _configure(self, launcher):
    import vizdoom

    game = self._game
    game.set_vizdoom_path(str(launcher))
    game.set_doom_game_path(str(bundled('freedoom2.wad')))
    game.set_doom_scenario_path(str(self._folder / 'resources.wad'))
    game.set_doom_config_path(str(self._folder / 'vizdoom.ini'))
    game.set_seed(0)  # The engine draws nothing at random here.
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_episode_timeout(0)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_console_enabled(True)  # Else it prints no reason for a failure.
    game.set_render_hud(False)
    game.set_render_weapon(False)
    game.set_render_crosshair(False)
    game.set_render_messages(False)
    game.set_render_screen_flashes(False)
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_available_buttons(
      [
        button.TURN_LEFT_RIGHT_DELTA,
        button.MOVE_FORWARD_BACKWARD_DELTA,
        button.MOVE_LEFT_RIGHT_DELTA,
      ]
    )
    game.set_available_game_variables(
      [
        variable.ITEMCOUNT,
        variable.SECRETCOUNT,
        variable.POSITION_X,
        variable.POSITION_Y,
        variable.ANGLE,
      ]
    )

  def _launcher(self):
    """A script that ViZDoom runs in place of the engine: the supervisor."""
    command = [
      *(sys.executable, '-IS', supervisor.__file__, str(os.getpid())),
      *(str(self._folder), str(bundled('vizdoom'))),
    ]
    path = self._folder / 'launch'
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)
    if not os.access(path, os.X_OK):  # ViZDoom would crash Python.
      raise errors.UsageError(
        f'TMPDIR={self._folder.parent}: programs cannot run there; '
        'allowed: another folder for temporary files'
      )
    return path

  def _start(self):
    game, problem, returned = self._game, [], threading.Event()

    def start():
      try:
        game.init()
      except Exception as error:
        problem.append(str(error))
      returned.set()

    # If the engine ends, this thread and the supervisor wait forever: else
    # ViZDoom would crash Python.
    threading.Thread(target=start, name='doom', daemon=True).start()
    try:
      self._wait(returned, math.inf)
    except BaseException:  # Python must not end while the engine starts.
      end = time.monotonic() + _START_SECONDS
      while self._starts(returned) and time.monotonic() < end:
        with contextlib.suppress(KeyboardInterrupt):
          self._wait(returned, end)
      if returned.is_set() and not problem:
        self._own_the_engine()
      raise
    if problem or not returned.is_set():
      outcome = self._outcome()
      self._end()
      raise errors.RunError(
        f'ViZDoom did not start: {"".join(problem)}{outcome}'
      )
    self._own_the_engine()
    (self._folder / supervisor.STARTED).touch()

  def _starts(self, returned):
    return not returned.is_set() and not self._ended.exists()

  def _wait(self, returned, end):
    # Not by Thread.join: after Ctrl-C it considers the thread as ended.
    while self._starts(returned) and time.monotonic() < end:
      returned.wait(0.02)

  def _own_the_engine(self):
    """Ends the process with this object from now on."""
    number = int((self._folder / supervisor.PROCESS).read_text())
    process = None
    with contextlib.suppress(ProcessLookupError):  # It was killed.
      process = os.pidfd_open(number)
    self._end.detach()
    self._end = weakref.finalize(
      self, _end, self._game, process, self._folder, os.getpid()
    )

  def _outcome(self):
    """The exit code and the end of the output, in words."""
    parts = []
    if self._ended.exists():
      parts.append(f'exit code {self._ended.read_text()}')
    if self._output.exists():
      lines = self._output.read_text(errors='replace').split('\n')
      tail = [line.strip() for line in lines if line.strip()][-3:]
      parts.append(f'it printed: {" / ".join(tail) or "nothing"}')
    return '; '.join(parts)

  def load(self, level: bytes) -> State:
    """Loads a map, with the agent at its start and nothing taken yet.

    Args:
      level: a WAD with a map, in the format UDMF.
    """
    if not self._end.alive:
      raise gymnasium.error.ClosedEnvironmentError('the engine is closed')
    with errors.naming(f'TMPDIR={self._folder.parent}'):
      os.truncate(self._output, 0)  # It prints something for every map.
      (self._folder / _MAP).write_bytes(level)
    # A path relative to the engine's folder: it must not contain spaces.
    self._game.set_doom_map(f'file:{_MAP}')
    return self._state()

  def act(self, turn: float, forward: float, right: float, tics: int) -> State:
    """Turns and moves the agent for some tics.

    Args:
      turn: degrees per tic, to the right.
      forward: acceleration per tic; 25 is Doom's walk.
      right: likewise, to the right.
      tics: at least 1.
    """
    self._game.make_action([turn, forward, right], tics)
    return self._state()

  def _state(self):
    state = self._game.get_state()
    items, secrets, x, y, angle = state.game_variables
    return State(
      image=state.screen_buffer,
      items=int(items),
      secrets=int(secrets),
      x=x,
      y=y,
      angle=angle,
    )

  def close(self) -> None:
    """Kills the process, and removes its files."""
    self._end()


def _end(game, process, folder, owner):
  if os.getpid() != owner:
    # In a fork, which does not own the engine. The game's destructor would end
    # it all the same, so it must never run.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(game))
    return
  # Killed, with its supervisor, since it may hang: then ViZDoom would wait for
  # it and hold the GIL.
  if process is not None:
    with contextlib.suppress(ProcessLookupError):
      signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
  game.close()
  shutil.rmtree(folder, ignore_errors=True)


def bundled(name: str) -> pathlib.Path:
  """The path of a file that ViZDoom installs."""
  import vizdoom

  return pathlib.Path(vizdoom.__file__).with_name(name)
