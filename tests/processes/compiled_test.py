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
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)


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


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path):
  (tmp_path / 'file').write_text('')
  home = str(tmp_path / 'file')
  value, hits = compute(tmp_path, HOME=home)
  assert (float(value), hits) == (pytest.approx(0.55373, abs=1e-5), 0)


def test_a_folder_of_the_user_stays(tmp_path):
  mine = tmp_path / 'mine'
  compute(tmp_path, HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(mine))
  assert not (tmp_path / '.cache').exists()


def test_processors_of_each_kind_have_a_folder(tmp_path, monkeypatch):
  folders = {}
  values = {'jax_compilation_cache_dir': None}
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
