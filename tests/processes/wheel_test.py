"""The wheel holds the package, and trains where the repository is not."""

import os
import shutil
import subprocess
import sys
import zipfile

from programs import ROOT
import pytest

pytest.importorskip('setuptools', minversion='77')


def run(*command, cwd, **env):
  return subprocess.run(
    command,
    cwd=cwd,
    env=os.environ | env,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  ).stdout


def test_the_wheel_is_complete_and_trains(tmp_path):
  source = tmp_path / 'source'
  shutil.copytree(
    ROOT / 'a3c_jax',
    source / 'a3c_jax',
    ignore=shutil.ignore_patterns('__pycache__', 'compiled'),
  )
  for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
    shutil.copy(ROOT / name, source)
  pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
  options = ['--no-deps', '--no-build-isolation', '--wheel-dir=..']
  run(*pip, 'wheel', *options, '.', cwd=source)
  (wheel,) = tmp_path.glob('*.whl')
  unpacked = tmp_path / 'unpacked'
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(unpacked)
  # The installed package would step in for a module that is missing here.
  files = {
    folder: {
      str(path.relative_to(folder))
      for path in (folder / 'a3c_jax').rglob('*')
      if path.is_file()
    }
    for folder in (source, unpacked)
  }
  assert files[unpacked] == files[source]

  out = run(
    *(sys.executable, '-m', 'a3c_jax', 'train', 'catch', '--frames=200'),
    *('--threads=1', '--eval_frames=0', '--workdir=results'),
    cwd=tmp_path,
    PYTHONPATH=str(unpacked),
  )
  assert 'results in results' in out
