"""What imports load, what is public, and what library code leaves alone."""

import ast
import pathlib

import programs
from programs import succeeded
import pytest

import a3c_jax
from a3c_jax.algorithms import registry as algorithms
from a3c_jax.envs import domain
from a3c_jax.runtimes import registry as runtimes

PACKAGE = pathlib.Path(a3c_jax.__file__).parent
MODULES = {
  path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
  for path in sorted(PACKAGE.rglob('*.py'))
}
# They own their process: its streams, signals and exit code.
PROGRAMS = {
  'commands.py',
  'ctrl_c.py',
  'command_line.py',
  'core/signals.py',  # A program enters it.
  'envs/labyrinth/supervisor.py',  # The first process of each VizDoom.
  'envs/torcs/build.py',
  'reproduce/guard.py',  # The first process of each run on another machine.
  'runs/baselines.py',
  'runs/display.py',
  'runs/process.py',
}


def imported(tree):
  """Top-level names of the packages that a module imports, also in functions.

  `importlib.import_module` with a constant name counts too.
  """
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name.split('.')[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'a relative import'
      yield node.module.split('.')[0]
    elif isinstance(node, ast.Call) and node.args:
      called = ast.unparse(node.func)
      if called.endswith('import_module') and isinstance(
        node.args[0], ast.Constant
      ):
        yield node.args[0].value.split('.')[0]


def loaded_after(statement):
  """Names in `sys.modules` of a fresh process after a statement."""
  code = f'{statement}; import sys; print(*sys.modules)'
  return succeeded(programs.run('-c', code, cwd=PACKAGE.parent)).split()


@pytest.mark.parametrize(
  ('names', 'not_loaded'),
  [
    ('losses, returns', {'absl', 'flax', 'optax', 'rich'}),
    ('schedules', {'absl', 'flax', 'jax', 'optax', 'rich'}),
    ('networks, policy_based, value_based', {'optax'}),
  ],
)
def test_a_part_loads_no_environment_and_no_run(names, not_loaded):
  loaded = loaded_after(f'from a3c_jax import {names}')
  rooms = ('a3c_jax.envs', 'a3c_jax.runs', 'a3c_jax.settings')
  assert [name for name in loaded if name.startswith(rooms)] == []
  packages = {name.split('.')[0] for name in loaded}
  assert 'a3c_jax' in packages
  not_loaded = not_loaded | {'gymnasium', 'orbax', 'tensorboardX'}
  assert packages & not_loaded == set()


def test_public_names_can_be_imported():
  for name in a3c_jax.__all__:
    scope = {}
    exec(f'from a3c_jax import {name}', scope)
    assert scope[name] is getattr(a3c_jax, name)
  assert set(a3c_jax.__all__) <= set(dir(a3c_jax))


def test_public_names_are_listed_before_their_first_use():
  listed = loaded_after('import a3c_jax; print(*dir(a3c_jax))')
  assert set(a3c_jax.__all__) <= set(listed)


def test_type_checkers_see_the_same_public_names():
  (checked,) = (
    node
    for node in MODULES['__init__.py'].body
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
  )
  seen = {
    alias.asname: f'{node.module}.{alias.name}'
    for node in checked.body
    for alias in node.names
  }
  public = a3c_jax._PUBLIC.items()
  assert seen == {name: path.replace(':', '.') for name, path in public}


def test_an_unknown_name_is_an_attribute_error():
  with pytest.raises(AttributeError, match='no attribute nothing'):
    _ = a3c_jax.nothing
  with pytest.raises(ImportError):
    exec('from a3c_jax import nothing')


@pytest.mark.parametrize(
  ('package', 'only_in'),
  [
    ('absl', {'command_line.py', 'settings/flags.py'}),
    ('ale_py', {'envs/atari.py'}),
    ('dm_control', {'envs/factories.py'}),
    ('experiments', set()),
    ('labmaze', {'envs/labyrinth/mazes.py'}),
    ('mujoco', {'envs/mujoco.py'}),
    ('vizdoom', {'envs/labyrinth/doom.py'}),
  ],
)
def test_a_package_is_imported_in_one_place(package, only_in):
  found = {name for name, tree in MODULES.items() if package in imported(tree)}
  assert found == only_in


def test_library_code_owns_no_process():
  forbidden = {'print', 'os._exit', 'sys.exit', 'exit', 'signal.signal'}
  owners = {
    name
    for name, tree in MODULES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden
  }
  assert owners == PROGRAMS


def test_no_code_asks_for_the_name_of_an_algorithm_a_domain_or_a_runtime():
  names = {*domain.names(), *algorithms.names(), *runtimes.names()}
  scripts = {
    path.name: ast.parse(path.read_text())
    for path in (programs.ROOT / 'experiments').rglob('*.py')
  }
  found = [
    f'{name}: {ast.unparse(node)}'
    for name, tree in (MODULES | scripts).items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Compare)
    and '__module__' not in ast.unparse(node)  # There gym is a package.
    for part in ast.walk(node)
    if isinstance(part, ast.Constant) and part.value in names
  ]
  assert found == []


def test_the_import_that_readme_names_registers_our_environments(tmp_path):
  succeeded(
    programs.run_code(
      'import a3c_jax.envs, gymnasium; '
      'gymnasium.spec("a3c_jax/Labyrinth-v0"); '
      'gymnasium.spec("a3c_jax/Torcs-v0")',
      tmp_path,
    )
  )
