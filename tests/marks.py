"""Tests that need what not every machine has."""

import importlib.util

import pytest

from a3c_jax.core import errors
from a3c_jax.envs import mujoco
from a3c_jax.envs.torcs import installed

needs_pictures = pytest.mark.skipif(
  mujoco.backend() is None, reason='neither EGL nor OSMesa works here'
)
needs_dm_control = pytest.mark.skipif(
  importlib.util.find_spec('dm_control') is None,
  reason='dm_control is not installed: it needs Python 3.11 or 3.12',
)
needs_labyrinth = pytest.mark.skipif(
  None in map(importlib.util.find_spec, ('vizdoom', 'labmaze')),
  reason='ViZDoom and labmaze are not installed: it needs Python 3.11 or 3.12',
)


def _why_no_torcs():
  try:
    installed.check_compiled()
  except errors.UsageError as error:
    return str(error)
  return ''


needs_torcs = pytest.mark.skipif(bool(_why_no_torcs()), reason=_why_no_torcs())
