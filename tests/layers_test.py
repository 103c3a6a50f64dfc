"""Keeps the layers apart: a module imports only from a smaller number."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LAYERS = {
  0: ('base', 'checks', 'cpu', 'files', 'output', 'tables', 'workers'),
  0.5: ('activations',),
  1: (
    'returns',
    'schedules',
    'normalization',
    'networks',
    'optimizers',
    'telemetry',
    'signals',
  ),
  2: ('batch', 'losses', 'rollout', 'shared'),
  3: ('value_based', 'policy_based', 'checkpoints'),  # Equals do not meet.
  4: ('actor_learner', 'agents', 'evaluation', 'profiling', 'workdir'),
  4.5: ('published',),
  5: ('training', 'loading', 'curves', 'scales'),
  6: ('figures', 'command_line'),
}
ENVS = {  # One upon the other; the rest is 1.
  'domain': 0.9,
  'boundary': 1.1,
  'gym': 1.2,
  'catch': 1.3,
  'control': 1.3,
  'doom': 1.1,
  'wads': 1.1,
  'labyrinth': 1.3,
  'pathfinder': 1.4,
  'torcs.build': 1.1,
  'torcs.game': 1.1,
  'torcs.racing': 1.3,
  'torcs.driver': 1.4,
}
PACKAGES = {
  'algorithms': {'algorithm': 3.1, 'builtin': 3.2, 'registry': 3.3},
  'settings': {
    'common': 3.4,
    'defaults': 3.5,
    'record': 3.6,
    'config': 3.7,
    'flags': 3.8,
  },
}
LAYER = {
  f'a3c_jax.{name}': layer for layer, names in LAYERS.items() for name in names
}
MODULES = sorted(
  path
  for path in (ROOT / 'a3c_jax').rglob('*.py')
  if path.name != '__init__.py'
)


def imports(path):
  """Full names of all that a file imports, also inside functions."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def layer(name):
  names = name.split('.')
  if names[1] == 'envs':
    return ENVS.get('.'.join(names[2:]), 1)
  if names[1] in PACKAGES:
    return PACKAGES[names[1]][names[2]]
  return LAYER['.'.join(names[:2])]  # a3c_jax.base.Learner: its module.


@pytest.mark.parametrize('path', MODULES, ids=lambda path: path.stem)
def test_imports_only_smaller_layers(path):
  own = layer('.'.join(path.relative_to(ROOT).with_suffix('').parts))
  ours = [name for name in imports(path) if name.split('.')[0] == 'a3c_jax']
  assert [name for name in ours if layer(name) >= own] == []


@pytest.mark.parametrize(
  ('package', 'only_in'),
  [
    ('absl', {'flags.py', 'command_line.py'}),
    ('ale_py', {'atari.py'}),
    ('mujoco', {'simulations.py'}),
    ('dm_control', {'gym.py'}),
    ('vizdoom', {'doom.py'}),
    ('labmaze', {'mazes.py'}),
    ('experiments', set()),
  ],
)
def test_imported_in_one_place(package, only_in):
  found = {
    path.name
    for path in (ROOT / 'a3c_jax').rglob('*.py')
    if package in {name.split('.')[0] for name in imports(path)}
  }
  assert found == only_in


def test_init_only_exports():
  tree = ast.parse((ROOT / 'a3c_jax/__init__.py').read_text())
  docstring, *exports = tree.body
  assert isinstance(docstring, ast.Expr)
  for node in exports:
    assert isinstance(node, ast.ImportFrom)
    assert all(alias.asname == alias.name for alias in node.names)
