"""What an extra of setup.py installs is enough for what it is for."""

import importlib.metadata
import subprocess
import sys

from marks import needs_dm_control, needs_labyrinth
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

# Python as it is where only some packages are installed.
PRELUDE = """
import importlib.metadata, sys
finders = [*sys.meta_path]
class Some(importlib.metadata.DistributionFinder):
  @staticmethod
  def find_spec(name, path=None, target=None):
    if name.partition('.')[0] in ABSENT_MODULES:
      return None
    found = (finder.find_spec(name, path, target) for finder in finders)
    return next(filter(None, found), None)
  @staticmethod
  def find_distributions(*args):
    for finder in finders:
      for found in getattr(finder, 'find_distributions', lambda *_: ())(*args):
        if found.name not in ABSENT_PACKAGES:
          yield found
sys.meta_path[:] = [Some]
"""


def installed_by(extra):
  """The packages that come with a3c_jax[extra]."""
  todo = [('a3c_jax', ''), ('a3c_jax', extra)]
  done = set()
  while todo:
    package = todo.pop()
    if package in done:
      continue
    done.add(package)
    try:
      lines = importlib.metadata.requires(package[0]) or []
    except importlib.metadata.PackageNotFoundError:
      continue  # Of another platform, or of no use to the tests.
    for requirement in map(Requirement, lines):
      marker = requirement.marker
      if not marker or marker.evaluate({'extra': package[1]}):
        name = canonicalize_name(requirement.name)
        todo += [(name, more) for more in ('', *requirement.extras)]
  return {canonicalize_name(name) for name, _ in done}


def run_with(extra, code, folder):
  """Runs code where nothing but a3c_jax[extra] is installed."""
  present = installed_by(extra)
  packages = importlib.metadata.packages_distributions()
  modules = {
    module
    for module, names in packages.items()
    if present.isdisjoint(map(canonicalize_name, names))
  }
  absent = {name for names in packages.values() for name in names}
  absent = {name for name in absent if canonicalize_name(name) not in present}
  assert 'pytest' in modules
  return subprocess.run(
    [
      sys.executable,
      '-c',
      f'ABSENT_MODULES = {modules}\nABSENT_PACKAGES = {absent}\n'
      f'{PRELUDE}{code}\nprint("done")',
    ],
    cwd=folder,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


CONTROL = """
from a3c_jax.envs import control
env = control.make(control.Options(env='{}'))()
env.reset(seed=1)
env.close()
"""


@pytest.mark.parametrize(
  ('extra', 'code'),
  [
    (
      '',
      'from a3c_jax.envs import atari\n'
      'atari.make(atari.Options())().reset(seed=1)\n'
      'import a3c_jax.training',
    ),
    ('', CONTROL.format('Pendulum-v1')),
    ('mujoco', CONTROL.format('HalfCheetah-v5')),
    pytest.param(
      'mujoco',
      CONTROL.format('dm_control/cartpole-balance'),
      marks=needs_dm_control,
    ),
    pytest.param(
      'labyrinth',
      'from a3c_jax.envs import labyrinth\n'
      'env = labyrinth.make(labyrinth.Options())()\n'
      'env.reset(seed=1)\n'
      'env.close()',
      marks=needs_labyrinth,
    ),
    (
      'plot',
      'from a3c_jax import figures\n'
      'figure, _ = figures.subplots(1, 1, size=(2, 2))\n'
      'figure.savefig("picture.png")',
    ),
    (
      'video',
      'import numpy as np\n'
      'from gymnasium.utils.save_video import save_video\n'
      'from PIL import Image\n'
      'picture = np.zeros((16, 16, 3), np.uint8)\n'
      'Image.fromarray(picture).save("picture.png")\n'
      'save_video(["picture.png"] * 2, ".", lambda _: True, fps=10)',
    ),
  ],
)
def test_an_extra_is_enough(extra, code, tmp_path):
  process = run_with(extra, code, tmp_path)
  assert process.stdout.endswith('done\n'), process.stderr


@pytest.mark.parametrize(
  ('module', 'extra'),
  [('matplotlib', 'plot'), ('moviepy', 'video'), ('mujoco', 'mujoco')],
)
def test_what_no_extra_installs_is_absent(module, extra, tmp_path):
  assert 'done' in run_with(extra, f'import {module}', tmp_path).stdout
  process = run_with('', f'import {module}', tmp_path)
  assert f"No module named '{module}'" in process.stderr
