"""Each extra of the package installs all that its purpose needs."""

import functools
import importlib.metadata

from marks import needs_dm_control, needs_labyrinth
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from programs import run_code, succeeded
import pytest

# Makes Python behave as if only some packages were installed.
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
  """The packages that a3c_jax[extra] installs."""
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


# It reads what each installed package holds.
packages_of_modules = functools.cache(importlib.metadata.packages_distributions)


def run_with(extra, code, folder):
  """Runs code as if only a3c_jax[extra] were installed."""
  present = installed_by(extra)

  def absent(names):
    return {name for name in names if canonicalize_name(name) not in present}

  packages = packages_of_modules()
  modules = {
    module for module, names in packages.items() if absent(names) == set(names)
  }
  assert 'pytest' in modules
  return run_code(
    f'ABSENT_MODULES = {modules}\n'
    f'ABSENT_PACKAGES = {absent(sum(packages.values(), []))}\n'
    f'{PRELUDE}{code}\nprint("done")',
    folder,
  )


def reset(name, **options):
  """Code that makes and resets an environment of a domain."""
  return (
    'from a3c_jax.envs import domain\n'
    f'chosen = domain.get({name!r})\n'
    f'options = chosen.options(**{options})\n'
    'env = chosen.make(options, domain.SINGLE)()\n'
    'env.reset(seed=1)\n'
    'env.close()\n'
  )


VIDEO = """
from a3c_jax.envs import catch, domain
from a3c_jax.runs import video
request = domain.EnvRequest(render=True)
env = catch.DOMAIN.make(catch.Options(), request)()
recorder = video.VideoRecorder(
  env, 'videos', episodes=1, label='name', temporary='.'
)
recorder.on_step(0, env)
recorder.on_episode(0)
"""


STUDY = """
import pathlib
from a3c_jax.reproduce import study
drawn = study.Study(pathlib.Path(), {'x': (1.0, 2.0)}, sampler='tpe', seed=1)
assert 1 <= drawn.values(0)['x'] <= 2
"""


@pytest.mark.parametrize(
  ('extra', 'code'),
  [
    ('', reset('catch') + 'import a3c_jax.runs.training'),
    ('atari', reset('atari')),
    ('', reset('control', env='Pendulum-v1')),
    ('mujoco', reset('control', env='HalfCheetah-v5')),
    pytest.param(
      'mujoco',
      reset('control', env='dm_control/cartpole-balance'),
      marks=needs_dm_control,
    ),
    pytest.param('labyrinth', reset('labyrinth'), marks=needs_labyrinth),
    (
      'plot',
      'from a3c_jax.reproduce import drawing\n'
      'figure, _ = drawing.subplots(1, 1, size=(2, 2))\n'
      'figure.savefig("picture.png")\n'
      'import numpy as np\n'
      'from a3c_jax.reproduce import curves\n'
      'assert curves.binned([(np.ones(2), np.ones(2))], 2).mean == [1]',
    ),
    ('video', VIDEO),
    ('search', STUDY),
  ],
)
def test_an_extra_is_enough(extra, code, tmp_path):
  _, out, err = run_with(extra, code, tmp_path)
  assert out.endswith('done\n'), err


@pytest.mark.parametrize(
  ('module', 'extra'),
  [
    ('ale_py', 'atari'),
    ('matplotlib', 'plot'),
    ('moviepy', 'video'),
    ('mujoco', 'mujoco'),
    ('optuna', 'search'),
    ('pandas', 'plot'),
  ],
)
def test_what_no_extra_installs_is_absent(module, extra, tmp_path):
  code = f'import {module}'
  assert succeeded(run_with(extra, code, tmp_path)) == 'done\n'
  assert f"No module named '{module}'" in run_with('', code, tmp_path)[2]
