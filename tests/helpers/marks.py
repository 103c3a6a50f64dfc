"""Marks of tests that need something which not every machine has."""

import functools
import importlib.util

import pytest

from a3c_jax.core import errors
from a3c_jax.envs import mujoco
from a3c_jax.envs.torcs import installed

# To find out whether these are there takes processes: see `why_not`.
needs_pictures = pytest.mark.needs('pictures')
needs_torcs = pytest.mark.needs('torcs')
needs_dm_control = pytest.mark.skipif(
  importlib.util.find_spec('dm_control') is None,
  reason='dm_control is not installed: it needs Python 3.11 or 3.12',
)
needs_labyrinth = pytest.mark.skipif(
  None in map(importlib.util.find_spec, ('vizdoom', 'labmaze')),
  reason='ViZDoom and labmaze are not installed: it needs Python 3.11 or 3.12',
)
needs_ray = pytest.mark.skipif(
  importlib.util.find_spec('ray') is None,
  reason="Ray is not installed: pip install -e '.[cluster]'",
)


@functools.cache
def why_not(what: str) -> str:
  """Why tests with `pytest.mark.needs(what)` are skipped; '' if they run.

  It is found out once, when the first such test is about to run.
  """
  if what == 'pictures':
    if mujoco.backend() is None:
      return 'neither EGL nor OSMesa works here'
  elif what == 'torcs':
    try:
      installed.check_compiled()
    except errors.UsageError as error:
      return str(error)
  else:
    raise ValueError(what)
  return ''
