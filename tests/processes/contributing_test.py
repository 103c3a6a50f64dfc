"""CONTRIBUTING.md: its recipes are what other tests run, or are run here."""

import re
import subprocess

from programs import ROOT
import pytest
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
  here = tmp_path / 'here'
  (here / '.venv/bin').mkdir(parents=True)
  for path, text in (
    (tmp_path / 'git', 'echo "git $@"'),
    (here / '.venv/bin/python', 'echo "ratio of $PYTHONPATH $@"; echo else'),
  ):
    path.write_text(f'#!/bin/bash\n{text}\n')
    path.chmod(0o755)
  done = subprocess.run(
    ['bash', '-ec', script],
    cwd=here,
    env={'PATH': f'{tmp_path}:/usr/bin:/bin'},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')
  first, *lines, last = done.stdout.splitlines()
  assert first == 'git worktree add --detach ../before main'
  assert last == 'git worktree remove ../before'
  measured = [line.split()[2:4] for line in lines if line.startswith('ratio')]
  both = [
    [str(code), f'{code}/experiments/benchmark.py']
    for code in (here / '../before', here)
  ]
  assert measured == both * 5
