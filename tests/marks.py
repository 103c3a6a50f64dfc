"""Tests that need what not every machine has."""

import importlib.util

import pytest

from a3c_jax.envs import simulations

needs_pictures = pytest.mark.skipif(
  simulations.backend() is None, reason='neither EGL nor OSMesa works here'
)
needs_dm_control = pytest.mark.skipif(
  importlib.util.find_spec('dm_control') is None,
  reason='dm_control is not installed: it needs Python 3.11 or 3.12',
)
needs_labyrinth = pytest.mark.skipif(
  None in map(importlib.util.find_spec, ('vizdoom', 'labmaze')),
  reason='ViZDoom and labmaze are not installed: it needs Python 3.11 or 3.12',
)
