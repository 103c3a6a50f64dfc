"""The folder of a run: what is refused, and what goes on."""

import json
import os
import resource

import pytest

from a3c_jax import checks, config, workdir

ALLOWED = (
  'allowed: a new or empty folder that can be written to, or that of a run'
)


def make_config(path, **given):
  return config.make(
    'catch',
    workdir=str(path),
    environment={'name': 'catch', 'size': 5},
    **{'threads': 2} | given,
  )


def claim(path, frames=0, **given):
  with workdir.Workdir(make_config(path, **given)) as folder:
    folder.claim(frames)
    return folder.goes_on


def record(path):
  return json.loads((path / 'config.json').read_text())


def refusal(path, **given):
  with pytest.raises(checks.UsageError) as error:
    claim(path, **given)
  (line,) = str(error.value).splitlines()
  return line


def test_a_new_folder_and_an_empty_one(tmp_path):
  (tmp_path / 'empty').mkdir()
  for path in (tmp_path / 'empty', tmp_path / 'new' / 'below'):
    assert not claim(path)
    assert [entry.name for entry in path.iterdir()] == ['config.json']
    assert record(path)['changes'] == []
    assert record(path)['versions']['flax']


def test_nothing_is_written_before_the_claim(tmp_path):
  workdir.Workdir(make_config(tmp_path / 'new'))
  assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_refused(tmp_path):
  (tmp_path / 'thesis.txt').write_text('kept')
  assert refusal(tmp_path) == (
    f'--workdir={tmp_path}: holds files, but no config.json of a run; {ALLOWED}'
  )
  for text in ('', '[]', '{}', '{"config": 3, "changes": []}'):
    (tmp_path / 'config.json').write_text(text)
    assert refusal(tmp_path) == (
      f'--workdir={tmp_path}: its config.json is not that of a run; '
      'allowed: the folder of a run'
    )
    assert (tmp_path / 'config.json').read_text() == text


def test_paths_that_cannot_be_folders(tmp_path):
  file = tmp_path / 'file'
  file.write_text('kept')
  for path in (file, file / 'below', tmp_path / ('x' * 300)):
    line = refusal(path)
    assert line.startswith(f'--workdir={path}: ')
    assert line.endswith(ALLOWED)
  assert file.read_text() == 'kept'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_no_permission(tmp_path):
  tmp_path.chmod(0o500)
  assert 'no permission' in refusal(tmp_path)
  assert 'no permission' in refusal(tmp_path / 'below')


def test_the_same_settings_go_on(tmp_path):
  claim(tmp_path)
  before = record(tmp_path)
  assert claim(tmp_path, seconds=3.0, log_seconds=7.0, keep=9)
  after = record(tmp_path)
  assert after['changes'] == []
  assert after['config']['keep'] == 9
  assert before['config']['seed'] == after['config']['seed']


@pytest.mark.parametrize(
  ('given', 'problem'),
  [
    (
      {'seed': 2},
      '--seed=2: the run in {} has 1; allowed: that value, or --override=seed',
    ),
    (
      {'learning_rate': 0.5},
      '--learning_rate=0.5: the run in {} has '
      '0.003; allowed: that value, or --override=learning_rate',
    ),
    (
      {'exploration_ends': (0.2,)},
      '--exploration_ends=0.2: the run in {} '
      'has 0.05; allowed: that value, or --override=exploration_ends',
    ),
    (
      {'threads': 3},
      '--threads=3: the run in {} has 2; allowed: that '
      'value, or --override=threads',
    ),
  ],
)
def test_changed_settings_are_refused(tmp_path, given, problem):
  claim(tmp_path)
  before = (tmp_path / 'config.json').read_text()
  assert refusal(tmp_path, **given) == problem.format(tmp_path)
  assert (tmp_path / 'config.json').read_text() == before


def test_settings_of_the_environment_are_compared_too(tmp_path):
  claim(tmp_path)
  other = config.make(
    'catch',
    workdir=str(tmp_path),
    environment={'name': 'catch', 'size': 6},
    threads=2,
  )
  with pytest.raises(checks.UsageError, match='--size=6.* has 5'):
    workdir.Workdir(other)
  other = config.make(
    'catch', workdir=str(tmp_path), environment={'name': 'tag'}, threads=2
  )
  with pytest.raises(checks.UsageError, match='--env=tag.* has catch'):
    workdir.Workdir(other)


def test_overrides_are_noted(tmp_path):
  claim(tmp_path)
  claim(tmp_path, frames=70, seed=2, override=('seed',))
  claim(tmp_path, frames=90, seed=3, threads=4, override=('seed', 'threads'))
  assert record(tmp_path)['changes'] == [
    {'setting': 'seed', 'was': 1, 'became': 2, 'frames': 70},
    {'setting': 'threads', 'was': 2, 'became': 4, 'frames': 90},
    {'setting': 'seed', 'was': 2, 'became': 3, 'frames': 90},
  ]
  assert claim(tmp_path, seed=3, threads=4)


def test_an_override_of_nothing_is_refused(tmp_path):
  for name in ('sed', 'keep', 'workdir'):
    line = refusal(tmp_path, override=(name,))
    assert line.startswith(
      f'--override={name}: no setting that has to stay; allowed: action_repeat'
    )
    assert 'seed, size, t_max' in line and 'keep' not in line[40:]


def test_one_process_at_a_time(tmp_path):
  with workdir.Workdir(make_config(tmp_path)) as folder:
    folder.claim(0)
    assert refusal(tmp_path) == (
      f'--workdir={tmp_path}: another process is using it; {ALLOWED}'
    )
  with workdir.Workdir(make_config(tmp_path)) as folder:
    folder.claim(0)  # Goes on, with a new file in the place of the old one.
    assert 'another process' in refusal(tmp_path)
  assert claim(tmp_path)


def test_a_process_that_ended_while_writing_leaves_a_usable_folder(tmp_path):
  (tmp_path / 'config.json.new').write_text('{"conf')
  assert not claim(tmp_path)
  assert [entry.name for entry in tmp_path.iterdir()] == ['config.json']


def test_a_full_disk_is_told_in_one_line_and_the_run_is_as_it_was(tmp_path):
  claim(tmp_path)
  before = (tmp_path / 'config.json').read_bytes()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
  try:
    with pytest.raises(checks.RunError) as error:
      claim(tmp_path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert str(error.value) == (
    f'--workdir={tmp_path}: File too large; nothing was changed'
  )
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']
  assert (tmp_path / 'config.json').read_bytes() == before
  assert claim(tmp_path)


def test_settings_come_back_from_the_folder(tmp_path):
  settings = make_config(tmp_path, exploration_ends=(0.5,), override=('seed',))
  with workdir.Workdir(settings) as folder:
    folder.claim(0)
  assert workdir.read_config(tmp_path) == settings


def test_two_that_claim_a_new_folder_at_once(tmp_path):
  with (
    workdir.Workdir(make_config(tmp_path, seed=1)) as first,
    workdir.Workdir(make_config(tmp_path, seed=2)) as second,
  ):
    # The first has opened the file that it is about to fill.
    file = (tmp_path / 'config.json.new').open('ab')
    first._lock(file)
    with pytest.raises(checks.UsageError, match='another process is using it'):
      second.claim(0)
    file.close()
    first.claim(0)
    with pytest.raises(checks.UsageError, match='another process is using it'):
      second.claim(0)
  assert record(tmp_path)['config']['seed'] == 1
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_a_run_from_before_a_setting_existed(tmp_path):
  claim(tmp_path)
  old = record(tmp_path)
  for name in ('reward_scale', 'normalize_obs'):
    del old['config'][name]
  (tmp_path / 'config.json').write_text(json.dumps(old))
  assert workdir.read_config(tmp_path) == make_config(tmp_path)
  assert claim(tmp_path)
  assert record(tmp_path)['changes'] == []
  (tmp_path / 'config.json').write_text(json.dumps(old))
  line = refusal(tmp_path, reward_scale=2.0)
  assert line.startswith('--reward_scale=2.0: the run in ')
  assert ' has 1.0; ' in line
