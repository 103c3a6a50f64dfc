"""Programs that are kept on disk for the next process."""

import pathlib
import types

import programs
import pytest

from a3c_jax.core import compiled

pytestmark = pytest.mark.skipif(
  b'\nflags' not in pathlib.Path('/proc/cpuinfo').read_bytes(),
  reason='not Linux on x86',
)
COMPUTE = """
from a3c_jax.core import compiled, cpu
import jax
import jax.monitoring
import jax.numpy as jnp
cpu.set_up()
compiled.keep()
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith('/cache_hits'))
)
print(jax.jit(lambda x: jnp.sin(x).sum())(jnp.arange(8.)), sum(hits))
"""


@pytest.fixture(autouse=True)
def without_the_folder_of_the_tests(monkeypatch):
  for name in (
    'JAX_COMPILATION_CACHE_DIR',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS',
    'PYTHONWARNINGS',
  ):
    monkeypatch.delenv(name, raising=False)


def compute(folder, **env):
  """Computes in a process; returns the value and the programs it found."""
  env = {'XDG_CACHE_HOME': '', **env}
  result = programs.run('-c', COMPUTE, cwd=folder, env=env)
  value, hits = programs.succeeded(result).split()
  return value, int(hits)


def entries(folder):
  return sorted(folder.rglob('jit_*-cache'))


def test_the_next_process_finds_what_one_has_compiled(tmp_path):
  value, hits = compute(tmp_path, HOME=str(tmp_path))
  kept = entries(tmp_path / '.cache/a3c_jax')
  assert hits == 0
  assert kept
  assert {path.parent.stat().st_mode & 0o777 for path in kept} == {0o700}
  assert compute(tmp_path, HOME=str(tmp_path)) == (value, len(kept))


def test_damaged_programs_are_compiled_again_without_a_word(tmp_path):
  value, _ = compute(tmp_path, XDG_CACHE_HOME=str(tmp_path))
  for path in entries(tmp_path / 'a3c_jax'):
    path.write_bytes(path.read_bytes()[:-100])
  assert compute(tmp_path, XDG_CACHE_HOME=str(tmp_path)) == (value, 0)


@pytest.mark.parametrize(
  'env',
  [
    {'HOME': 'file'},
    {'HOME': '\udcff'},  # Which is no text.
    {'XDG_CACHE_HOME': 'relative', 'HOME': 'file'},
    {'JAX_ENABLE_COMPILATION_CACHE': 'false', 'HOME': ''},
  ],
  ids=str,
)
def test_where_no_folder_can_be_it_is_done_without(tmp_path, env):
  (tmp_path / 'file').write_text('')
  if 'HOME' in env:
    env = env | {'HOME': f'{tmp_path}/{env["HOME"]}'}
  value, hits = compute(tmp_path, **env)
  assert (float(value), hits) == (pytest.approx(0.55373, abs=1e-5), 0)
  assert not entries(tmp_path)
  assert not (tmp_path / 'relative').exists()


@pytest.mark.parametrize('mode', [0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path, mode):
  compute(tmp_path, HOME=str(tmp_path))
  (folder,) = (tmp_path / '.cache/a3c_jax').iterdir()
  folder.chmod(mode)
  _, hits = compute(tmp_path, HOME=str(tmp_path))
  assert hits == 0


def test_scripts_keep_what_they_compile(tmp_path):
  command = 'catch.py --frames=100 --threads=1 --eval_frames=0 --workdir=run'
  variables = {'HOME': str(tmp_path), 'XDG_CACHE_HOME': ''}
  process = programs.start_script(command, cwd=tmp_path, env=variables)
  programs.succeeded(programs.finish(process))
  names = {path.name.partition('-')[0] for path in entries(tmp_path / '.cache')}
  assert {'jit_clipped_gradients', 'jit_update'} <= names


def test_a_folder_of_the_user_stays(tmp_path):
  mine = tmp_path / 'mine'
  where = {'HOME': str(tmp_path), 'JAX_COMPILATION_CACHE_DIR': str(mine)}
  settings = {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
  compute(tmp_path, **where, **settings)
  assert not (tmp_path / '.cache').exists()
  assert entries(mine)


def test_processors_of_each_kind_have_a_folder(tmp_path, monkeypatch):
  folders = {}
  values = {
    'jax_compilation_cache_dir': None,
    'jax_enable_compilation_cache': True,
  }
  config = types.SimpleNamespace(values=values, update=folders.__setitem__)
  monkeypatch.setattr(compiled.jax, 'config', config)
  found = set()
  for number, flags in enumerate(['fpu avx', 'fpu avx avx512f', 'fpu avx']):
    proc = tmp_path / str(number) / 'proc'
    proc.mkdir(parents=True)
    text = f'processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n'
    (proc / 'cpuinfo').write_text(text * 2)
    compiled.keep(tmp_path, proc.parent)
    found.add(folders['jax_compilation_cache_dir'])
  assert len(found) == 2
  folders.clear()
  compiled.keep(tmp_path, tmp_path)  # Without /proc/cpuinfo.
  assert not folders
