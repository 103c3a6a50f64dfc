"""CONTRIBUTING.md: its recipes are what other tests run, or are run here."""

import re
import subprocess

from programs import ROOT, refused
import pytest
from script_runs import run
import toy_algorithm_test
import toy_domain_test

TEXT = (ROOT / 'CONTRIBUTING.md').read_text()


@pytest.mark.parametrize('test', [toy_algorithm_test, toy_domain_test])
def test_a_recipe_is_the_script_of_its_test(test):
  blocks = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)
  assert len(blocks) == 2
  assert test.SCRIPT.removeprefix('\n') in blocks
  assert f'tests/processes/{test.__name__}.py' in TEXT


def test_speed_is_measured_as_printed(tmp_path):
  (script,) = re.findall(r'```bash\n(.*?)```', TEXT, re.DOTALL)
  (tmp_path / '.venv/bin').mkdir(parents=True)
  for path in (tmp_path / 'git', tmp_path / '.venv/bin/python'):
    path.write_text('#!/bin/bash\necho "${0##*/} $@"\n')
    path.chmod(0o755)
  done = subprocess.run(
    ['bash', '-ec', script],
    cwd=tmp_path,
    env={'PATH': f'{tmp_path}:/usr/bin:/bin'},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')
  first, measured, last = done.stdout.splitlines()
  assert first == 'git worktree add --detach ../before main'
  assert last == 'git worktree remove ../before'
  program, script, *flags = measured.split()
  assert (program, script) == ('python', 'experiments/benchmark.py')
  # All flags are known; only the folder is not there.
  out = refused(run('benchmark.py', *flags, cwd=tmp_path))
  assert out.startswith('--against=../before: has no')
