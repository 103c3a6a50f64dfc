"""ViZDoom's engine: a process that draws a maze and moves an agent in it."""

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
from typing import NamedTuple
import weakref

import gymnasium
import numpy as np

from a3c_jax.core import errors
from a3c_jax.envs.labyrinth import supervisor

TICS_PER_SECOND = 35  # Of Doom's clock.
HEIGHT, WIDTH = 120, 160  # Pixels of the smallest picture that it draws.
_MAP = 'maze.wad'
_PATIENCE = 10.0  # Seconds for the start of an engine, after Ctrl-C.


class State(NamedTuple):
  """What the engine tells after an action."""

  picture: np.ndarray  # [HEIGHT, WIDTH, 3] uint8
  items: int  # taken since the map was loaded, of actors with +COUNTITEM
  secrets: int  # likewise, with +COUNTSECRET
  x: float  # units of the map
  y: float
  angle: float  # degrees, 0 is along x, 90 along y


class Engine:
  """One process of ViZDoom.

  It ends with `close`, when this object is collected, and when this process
  ends, however that happens. Its files are in a temporary folder of its own.
  A start that fails leaves a thread and its keeper, 11 MB, until this process
  ends.
  """

  def __init__(self, resources: bytes):
    """Starts the process.

    Args:
      resources: a WAD with actors, sprites and textures.

    Raises:
      UsageError: if no program may be in the folder for temporary files.
      RunError: if it does not start, with what it said.
    """
    import vizdoom

    self._folder = pathlib.Path(tempfile.mkdtemp(prefix='a3c_jax-doom-'))
    self._game = game = vizdoom.DoomGame()
    self._end = weakref.finalize(self, shutil.rmtree, self._folder, True)
    with self._telling_of_the_folder():
      (self._folder / 'resources.wad').write_bytes(resources)
      launcher = self._launcher()
    game.set_vizdoom_path(str(launcher))
    game.set_doom_game_path(str(bundled('freedoom2.wad')))
    game.set_doom_scenario_path(str(self._folder / 'resources.wad'))
    game.set_doom_config_path(str(self._folder / 'vizdoom.ini'))
    game.set_seed(0)  # Nothing here is random: mazes come from outside.
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_episode_timeout(0)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_console_enabled(True)  # Or it does not say why it failed.
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
    self._start()

  def _launcher(self):
    """What ViZDoom runs, with its arguments, in place of the engine."""
    command = [
      *(sys.executable, '-IS', supervisor.__file__, str(os.getpid())),
      *(str(self._folder), str(bundled('vizdoom'))),
    ]
    path = self._folder / 'launch'
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)
    if not os.access(path, os.X_OK):  # ViZDoom would crash Python.
      raise errors.UsageError(
        f'TMPDIR={self._folder.parent}: nothing may be executed there; '
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

    # If the engine ends, this thread waits for ever, and so does the keeper:
    # otherwise ViZDoom would crash Python.
    threading.Thread(target=start, name='doom', daemon=True).start()
    try:
      self._wait(returned, math.inf)
    except BaseException:  # Python may not end while the engine starts.
      end = time.monotonic() + _PATIENCE
      while self._starts(returned) and time.monotonic() < end:
        with contextlib.suppress(KeyboardInterrupt):
          self._wait(returned, end)
      if returned.is_set() and not problem:
        self._own_the_engine()
      raise
    if problem or not returned.is_set():
      words = self._last_words()
      self._end()
      raise errors.RunError(f'ViZDoom did not start: {"".join(problem)}{words}')
    self._own_the_engine()
    (self._folder / supervisor.STARTED).touch()

  def _starts(self, returned):
    return not returned.is_set() and not self._ended.exists()

  def _wait(self, returned, end):
    # Not by Thread.join: after Ctrl-C it takes the thread to have ended.
    while self._starts(returned) and time.monotonic() < end:
      returned.wait(0.02)

  def _own_the_engine(self):
    """From now on, the process ends with this object."""
    number = int((self._folder / supervisor.PROCESS).read_text())
    process = None
    with contextlib.suppress(ProcessLookupError):  # Somebody killed it.
      process = os.pidfd_open(number)
    self._end.detach()
    self._end = weakref.finalize(
      self, _end, self._game, process, self._folder, os.getpid()
    )

  @property
  def _ended(self):
    return self._folder / supervisor.ENDED

  @property
  def _output(self):
    return self._folder / supervisor.OUTPUT

  def _last_words(self):
    words = []
    if self._ended.exists():
      words.append(f'exit code {self._ended.read_text()}')
    if self._output.exists():
      lines = self._output.read_text(errors='replace').split('\n')
      said = [line.strip() for line in lines if line.strip()]
      words.append(f'it said: {" / ".join(said[-3:]) or "nothing"}')
    return '; '.join(words)

  def load(self, level: bytes) -> State:
    """Puts the agent at the start of a map, and nothing is taken yet.

    Args:
      level: a WAD with a map, in the format UDMF.
    """
    if not self._end.alive:
      raise gymnasium.error.ClosedEnvironmentError('the engine is closed')
    with self._telling_of_the_folder():
      os.truncate(self._output, 0)  # It says something at every map.
      (self._folder / _MAP).write_bytes(level)
    # The engine is in that folder; no space may be in a path given to it.
    self._game.set_doom_map(f'file:{_MAP}')
    return self._state()

  def act(self, turn: float, forward: float, right: float, tics: int) -> State:
    """Turns and moves for some tics of the clock.

    Args:
      turn: degrees per tic, to the right.
      forward: push per tic, 25 is Doom's walk.
      right: likewise, sideways.
      tics: at least 1.
    """
    self._game.make_action([turn, forward, right], tics)
    return self._state()

  def _state(self):
    state = self._game.get_state()
    items, secrets, x, y, angle = state.game_variables
    return State(state.screen_buffer, int(items), int(secrets), x, y, angle)

  def close(self) -> None:
    """Ends the process, and removes its files."""
    self._end()

  @contextlib.contextmanager
  def _telling_of_the_folder(self):
    try:
      yield
    except OSError as error:
      raise errors.RunError(
        f'TMPDIR={self._folder.parent}: {error.strerror}'
      ) from error


def _end(game, process, folder, owner):
  if os.getpid() != owner:
    # A fork, whose engine it is not; its destructor would end it all the same.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(game))
    return
  # Not asked to end but killed, with its keeper: it may be stuck, and ViZDoom
  # would wait for it and let no other thread of Python run.
  if process is not None:
    with contextlib.suppress(ProcessLookupError):
      signal.pidfd_send_signal(process, signal.SIGKILL)
    os.close(process)
  game.close()
  shutil.rmtree(folder, ignore_errors=True)


def bundled(name: str) -> pathlib.Path:
  """A file that comes with ViZDoom."""
  import vizdoom

  return pathlib.Path(vizdoom.__file__).with_name(name)
