"""The folder of a run: what is refused, and what goes on."""

import dataclasses
import errno
import fcntl
import functools
import json
import os
import pathlib
import resource

from gymnasium import spaces
import numpy as np
import pytest
import settings

from a3c_jax.core import cpu, errors
from a3c_jax.envs import catch
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runs import workdir
from a3c_jax.settings import config
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.defaults import defaults

ALLOWED = (
  'allowed: a new or empty folder that can be written to, or that of a run'
)


def make_config(path, **given):
  return config.make(
    'catch',
    workdir=str(path),
    environment=catch.Options(rows=5),
    **{'threads': 2} | given,
  )


def claim(path, frames=0, **given):
  with workdir.Workdir(make_config(path, **given)) as folder:
    folder.claim(frames)
    return folder.resumes


def record(path):
  return json.loads((path / 'config.json').read_text())


def refusal(path, **given):
  with pytest.raises(errors.UsageError) as error:
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


def test_the_same_settings_resume(tmp_path):
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
      {'entropy_cost': 0.5},
      '--entropy_cost=0.5: the run in {} '
      'has 0.01; allowed: that value, or --override=entropy_cost',
    ),
    (
      {'algo': 'nstep_q', 'exploration_ends': (0.2,)},
      '--algo=nstep_q: the run in {} has a3c; allowed: that value, or '
      '--override=algo',
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
    environment=catch.Options(rows=6),
    threads=2,
  )
  with pytest.raises(errors.UsageError, match='--rows=6.* has 5'):
    workdir.Workdir(other)


def test_overrides_are_noted(tmp_path):
  claim(tmp_path)
  claim(tmp_path, frames=70, seed=2, override=('seed',))
  claim(tmp_path, frames=90, seed=3, threads=4, override=('seed', 'threads'))
  assert record(tmp_path)['changes'] == [
    {'setting': 'seed', 'was': 1, 'became': 2, 'frames': 70},
    {'setting': 'seed', 'was': 2, 'became': 3, 'frames': 90},
    {'setting': 'threads', 'was': 2, 'became': 4, 'frames': 90},
  ]
  assert claim(tmp_path, seed=3, threads=4)


def test_an_override_of_nothing_is_refused(tmp_path):
  for name in ('sed', 'keep', 'workdir'):
    line = refusal(tmp_path, override=(name,))
    assert line.startswith(
      f'--override={name}: no setting that has to stay; allowed: '
      'adagrad_epsilon, adam_epsilon, advantage, algo, '
    )
    assert (
      'rms_epsilon, rms_start, rows, runtime, seed' in line
      and 'keep' not in line[40:]
    )
    for never in ('domain', 'environment', 'lstm', 'optimizer'):
      assert f', {never}, ' not in line


@pytest.mark.parametrize(
  ('name', 'value'),
  [('optimizer', 'momentum_sgd'), ('lstm', True), ('domain', None)],
)
def test_an_override_that_no_checkpoint_fits_is_not_offered(
  tmp_path, name, value
):
  claim(tmp_path)
  line = refusal(tmp_path, override=(name,))
  assert line.startswith(f'--override={name}: no run resumes with another ')
  if value is not None:
    line = refusal(tmp_path, **{name: value})
    assert line.startswith(f'--{name}={value}: the run in {tmp_path} has ')
    assert line.endswith('; allowed: that value')


@pytest.mark.parametrize(
  ('began', 'given', 'new'),
  [
    (
      {'algo': 'a3c', 'entropy_cost': 0.5},
      {'algo': 'nstep_q'},
      {'target_period_frames', 'exploration_ends'},
    ),
    (
      {'algo': 'nstep_q', 'exploration_ends': (0.2,)},
      {'algo': 'one_step_q'},
      set(),
    ),
    (
      {'runtime': 'asynchronous', 'threads': 3},
      {'runtime': 'synchronous', 'reduce': 'mean'},
      {'reduce'},
    ),
    (
      {'runtime': 'asynchronous', 'threads': 3},
      {'runtime': 'queues'},
      {'agents', 'predictors'},
    ),
  ],
)
def test_another_algorithm_or_runtime_brings_its_own_settings(
  tmp_path, began, given, new
):
  make = functools.partial(
    config.make, 'catch', workdir=str(tmp_path / 'r'), frames=500
  )
  with workdir.Workdir(make(**began)) as folder:
    folder.claim(0)
  ((flag, value), *_) = given.items()
  with pytest.raises(errors.UsageError) as error:
    workdir.Workdir(make(**given))
  assert str(error.value).startswith(f'--{flag}={value}: the run in ')
  assert str(error.value).endswith(f', or --override={flag}')
  resumed = make(**given, override=(flag,))
  with workdir.Workdir(resumed) as folder:
    folder.claim(70)
  changes = {
    each['setting']: each for each in record(tmp_path / 'r')['changes']
  }
  assert changes.pop(flag)['became'] == value
  assert new <= changes.keys()
  assert all(each['was'] == '(none)' for each in changes.values())
  if 'threads' in began and flag == 'runtime' and value == 'synchronous':
    assert resumed.num_workers == 3
  # Settings that both have are still compared.
  with pytest.raises(errors.UsageError, match='^--gamma=0.5: .*=gamma$'):
    workdir.Workdir(make(**given, gamma=0.5))


def test_a_preset_that_the_run_has_not_is_named(tmp_path):
  with workdir.Workdir(config.make('atari', workdir=str(tmp_path / 'r'))) as r:
    r.claim(0)
  for preset, problem in (
    ('paac', ' with --runtime=asynchronous: allowed: --runtime=synchronous'),
    ('quick', ': the run'),
  ):
    with pytest.raises(errors.UsageError, match=f'^--preset={preset}{problem}'):
      workdir.Workdir(
        config.make('atari', workdir=str(tmp_path / 'r'), preset=preset)
      )


def test_an_override_in_a_new_folder_is_said_to_have_no_effect(
  tmp_path, caplog
):
  claim(tmp_path, override=('seed',))
  assert f'--override=seed: without effect; there is no run in {tmp_path}' in (
    caplog.text
  )
  caplog.clear()
  claim(tmp_path, seed=2, override=('seed',))
  claim(tmp_path, seed=2, override=('seed',))  # The same command again.
  assert caplog.text == ''


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
    with pytest.raises(errors.RunError) as error:
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
  settings = make_config(
    tmp_path, algo='nstep_q', exploration_ends=(0.5,), override=('seed',)
  )
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
    with pytest.raises(errors.UsageError, match='another process is using it'):
      second.claim(0)
    file.close()
    first.claim(0)
    with pytest.raises(errors.UsageError, match='another process is using it'):
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


def test_a_run_of_a_preset_from_before_a_setting_existed(tmp_path):
  pytest.importorskip('ale_py')
  made = config.make('atari', preset='quick', workdir=str(tmp_path))
  assert made.normalize_images and made.rms_start == 1
  with workdir.Workdir(made) as folder:
    folder.claim(0)
  old = record(tmp_path)
  for name in ('normalize_images', 'rms_start'):
    del old['config'][name]
  (tmp_path / 'config.json').write_text(json.dumps(old))
  # What the run did, not what the preset does now.
  found = workdir.read_config(tmp_path)
  assert found == dataclasses.replace(made, normalize_images=False, rms_start=0)


@pytest.mark.parametrize(
  'name',
  [
    'config.json.new',
    'episodes.csv',
    'eval.csv',
    'checkpoints',
    'checkpoints/attached/x',
    'best/100',
  ],
)
def test_what_leads_out_of_the_folder_is_not_written_to(tmp_path, name):
  path, other = tmp_path / 'run', tmp_path / 'other'
  other.write_text('mine')
  if name == 'config.json.new':  # Of a folder that is empty but for this.
    path.mkdir()
  else:
    claim(path)
  (path / name).parent.mkdir(parents=True, exist_ok=True)
  (path / name).symlink_to(other)
  assert refusal(path).startswith(
    f'--workdir={path}: {name} is a link that leads out of it, to {other}; '
  )
  assert other.read_text() == 'mine'


def test_spaces_are_kept_and_read_back(tmp_path):
  claim(tmp_path)
  assert record_lib.spaces_of(record_lib.read(tmp_path)) is None
  of_run = spaces_lib.Spaces(
    spaces.Box(0, 255, (4, 84, 84), np.uint8),
    spaces.Box(-np.inf, np.inf, (1,), np.float32),
    spaces.Box(-2.0, 2.0, (1,), np.float64),
  )
  with workdir.Workdir(make_config(tmp_path)) as folder:
    folder.claim(0, spaces_lib.to_records(of_run))
  assert record_lib.spaces_of(record_lib.read(tmp_path)) == of_run


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('kind', 'Dict'),
    ('dtype', 'object'),
    ('dtype', 'i4,f4'),
    ('shape', [10**6, 10**6]),
    ('shape', [-1]),
    ('low', 'x'),
    ('low', None),
  ],
)
def test_damaged_spaces_are_told_in_one_line(tmp_path, name, value):
  claim(tmp_path)
  box = spaces_lib.to_record(spaces.Box(0.0, 1.0, (2,), np.float32))
  damaged = dict.fromkeys(spaces_lib.Spaces._fields, box | {name: value})
  text = json.dumps(record(tmp_path) | {'spaces': damaged})
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(errors.UsageError) as error:
    record_lib.spaces_of(record_lib.read(tmp_path))
  assert str(error.value) == (
    f'--workdir={tmp_path}: its config.json is not that of a run; allowed: the '
    'folder of a run'
  )


RUN = 'allowed: the folder of a run'
NOT_OF_A_RUN = 'its config.json is not that of a run'


def changed(**values):
  """A damage: other values in config.json."""

  def change(path):
    old = record(path.parent)
    old['config'] |= values
    path.write_text(json.dumps(old))

  return change


def changed_algorithm(**values):
  def change(path):
    old = record(path.parent)
    old['config']['algorithm'] |= values
    path.write_text(json.dumps(old))

  return change


def earlier(path):
  """As it was when an algorithm's settings were not apart."""
  old = record(path.parent)
  old['config'] |= old['config'].pop('algorithm')
  path.write_text(json.dumps(old))


def without(name):
  def change(path):
    old = record(path.parent)
    del old['config'][name]
    path.write_text(json.dumps(old))

  return change


def a_folder(path):
  path.unlink()
  path.mkdir()


def a_pipe(path):
  path.unlink()
  os.mkfifo(path)


def text(content):
  return lambda path: path.write_text(content)


DAMAGES = {
  'empty': (text(''), NOT_OF_A_RUN),
  'no JSON': (text('hello'), NOT_OF_A_RUN),
  'a list': (text('[1, 2]'), NOT_OF_A_RUN),
  'null': (text('null'), NOT_OF_A_RUN),
  'a text': (text('"config"'), NOT_OF_A_RUN),
  'no mapping': (text('{"config": [], "changes": []}'), NOT_OF_A_RUN),
  'deep': (text('[' * 100_000), NOT_OF_A_RUN),
  'many digits': (text('{"config": ' + '9' * 5000 + '}'), NOT_OF_A_RUN),
  'binary': (lambda path: path.write_bytes(bytes(range(256))), NOT_OF_A_RUN),
  'truncated': (
    lambda path: path.write_text(path.read_text()[:200]),
    NOT_OF_A_RUN,
  ),
  'a folder': (a_folder, 'config.json: '),
  'a pipe': (a_pipe, 'config.json: is no file'),
  'a lost name': (without('domain'), NOT_OF_A_RUN),
  'a lost frames': (without('anneal_frames'), NOT_OF_A_RUN),
  'another domain': (changed(domain='chess'), 'its domain chess is not reg'),
  'a domain that is a list': (changed(domain=[1]), 'its domain [1] is not'),
  'threads in words': (
    changed(arrangement={'threads': 'two'}),
    '--threads=two: allowed',
  ),
  'another runtime': (changed(runtime='ring'), 'its runtime ring is not reg'),
  'NaN': (changed(gamma=float('nan')), '--gamma=nan: allowed'),
  'infinite': (changed(seconds=float('inf')), '--seconds=inf: allowed'),
  'a huge number': (changed(frames=10**400), '--frames=1000'),
  'lstm in words': (
    changed_algorithm(lstm='no'),
    '--lstm=no: allowed: true, false',
  ),
  'a seed of 1.5': (changed(seed=1.5), '--seed=1.5: allowed'),
  'a cost in words': (changed_algorithm(value_cost='x'), '--value_cost=x'),
  'no cost': (changed_algorithm(value_cost=None), '--value_cost=None'),
  'an unknown hyperparameter': (
    changed_algorithm(depth=5),
    'depth, a setting in config.json: this version of a3c_jax does not know it',
  ),
  'no algorithm': (changed(algorithm=None), NOT_OF_A_RUN),
  'another algorithm': (
    changed(algo='ppo'),
    'its algorithm ppo is not registered here',
  ),
  'an algorithm in a list': (changed(algo=[1]), 'its algorithm [1] is not'),
  'of an earlier version': (
    earlier,
    'its config.json is of an earlier version of a3c_jax',
  ),
  'no environment': (changed(environment=None), NOT_OF_A_RUN),
  'a board of one row': (changed(environment={'rows': 1}), '--rows=1: allowed'),
  'an unknown option': (
    changed(environment={'size': 5}),
    'size, a setting in config.json: this version of a3c_jax does not know it',
  ),
  'a network of 3': (changed(network=3), '--network=3: allowed'),
  'of a newer version': (
    changed(replay_size=5, warmth=1),
    'settings that this version of a3c_jax does not know, replay_size, warmth',
  ),
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_a_damaged_config_is_told_in_one_line(tmp_path, damage):
  claim(tmp_path)
  change, hint = DAMAGES[damage]
  change(tmp_path / 'config.json')
  for read in (workdir.read_config, claim):
    with pytest.raises(errors.UsageError) as error:
      read(tmp_path)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f'--workdir={tmp_path}: ')
    assert hint in line and line.endswith(RUN)
    assert len(line) < 700
  assert not workdir.is_finished(tmp_path)


@pytest.mark.parametrize(
  'number',
  [errno.ENOLCK, errno.ENOTSUP, errno.EPERM, errno.ENOSYS, errno.EINVAL],
  ids=errno.errorcode.get,
)
def test_a_file_system_without_locks_and_links(
  tmp_path, monkeypatch, caplog, number
):
  def missing(*args, **kwargs):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', missing)
  monkeypatch.setattr(os, 'link', missing)
  monkeypatch.setattr(os, 'fsync', missing)
  assert not claim(tmp_path)
  assert claim(tmp_path)
  (warning,) = caplog.messages  # One for both.
  expected = f'--workdir={tmp_path}: the file system has no locks'
  assert warning.startswith(expected)
  assert os.strerror(number) in warning


def test_a_link_in_the_place_of_a_folder_or_a_config(tmp_path):
  (tmp_path / 'real').mkdir()
  link = tmp_path / 'link'
  link.symlink_to('real')
  assert not claim(link)
  assert claim(link) and claim(tmp_path / 'real')
  # A config elsewhere leads out of the folder; one beside it does not.
  elsewhere = tmp_path / 'elsewhere.json'
  config_path = tmp_path / 'real' / 'config.json'
  config_path.rename(elsewhere)
  config_path.symlink_to(elsewhere)
  assert 'config.json is a link that leads out of it' in refusal(link)
  elsewhere.rename(tmp_path / 'real' / 'kept.json')
  config_path.unlink()
  config_path.symlink_to('kept.json')
  before = (tmp_path / 'real' / 'kept.json').read_text()
  assert claim(link, keep=7)
  assert (tmp_path / 'real' / 'kept.json').read_text() == before
  assert record(tmp_path / 'real')['config']['keep'] == 7
  dangling = tmp_path / 'dangling'
  dangling.symlink_to('nowhere')
  assert refusal(dangling) == (
    f'--workdir={dangling}: {dangling} is a link to nothing; {ALLOWED}'
  )
  assert 'is a link to nothing' in refusal(dangling / 'below')


def test_a_read_only_file_system(tmp_path, monkeypatch):
  def read_only(self, mode='r', *args, **kwargs):
    if mode != 'r':
      raise OSError(errno.EROFS, 'Read-only file system')
    return open(self, *args, **kwargs)

  claim(tmp_path / 'run')
  monkeypatch.setattr(pathlib.Path, 'open', read_only)
  for path in (tmp_path / 'run', tmp_path / 'new'):
    line = refusal(path)
    assert line.startswith(f'--workdir={path}: ')
    assert line.endswith(f'Read-only file system; {ALLOWED}')


@pytest.mark.parametrize('name', ['caf\udce9', 'run[1]', 'two\nlines', ' a '])
def test_a_path_of_any_characters(tmp_path, name):
  path = tmp_path / name
  assert not claim(path)
  assert claim(path)
  assert record(path)['config']['workdir'] == str(path)
  assert workdir.read_config(path).workdir == str(path)


def test_paths_that_no_file_can_have(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for path in ('', 'a\0b', '~\0', 3, b'bytes'):
    with pytest.raises(errors.UsageError, match='^--workdir=.*allowed: a path'):
      config.make('catch', workdir=path)
  line = refusal('/'.join(['x' * 250] * 20))
  assert line.endswith(f'File name too long; {ALLOWED}')


def test_a_folder_stays_where_it_was_given(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  given = make_config('runs/one', profile='traces')
  (tmp_path / 'other').mkdir()
  monkeypatch.chdir('other')
  with workdir.Workdir(given) as folder:
    folder.claim(0)
    assert (folder.path, folder.shown) == (tmp_path / 'runs/one', 'runs/one')
  saved = record(tmp_path / 'runs/one')['config']
  assert (saved['workdir'], saved['profile']) == ('runs/one', 'traces')
  assert given.profile == str(tmp_path / 'traces')
  assert list((tmp_path / 'other').iterdir()) == []


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  claim('~/run')
  assert (tmp_path / 'run' / 'config.json').exists()
  assert refusal('~/run', seed=9).startswith('--seed=9: the run in ~/run has 1')


def test_a_run_that_was_moved_is_resumed(tmp_path):
  claim(tmp_path / 'old')
  (tmp_path / 'old').rename(tmp_path / 'new')
  assert claim(tmp_path / 'new')
  assert record(tmp_path / 'new')['changes'] == []


def resume(path, **given):
  return config.make(
    'catch',
    workdir=str(path),
    environment=catch.Options(rows=5),
    **given,
  )


def test_what_is_not_given_comes_from_the_run(tmp_path, monkeypatch, caplog):
  began = {
    'threads': 7,
    'envs_per_thread': 3,
    'frames': 999,
    'learning_rate': 0.125,
    'value_cost': 0.25,
    'keep': 9,
    'eval_frames': 0,
  }
  once = {'seconds': 5.0, 'profile': str(tmp_path / 'p'), 'override': ('seed',)}
  with workdir.Workdir(make_config(tmp_path / 'run', **began, **once)) as run:
    run.claim(0)
  monkeypatch.setattr(cpu, 'cores', lambda: 64)
  made = resume(tmp_path / 'run')
  assert made.algorithm.value_cost == began.pop('value_cost')
  assert {name: settings.value_of(made, name) for name in began} == began
  assert made.anneal_frames == 999
  assert (made.seconds, made.profile, made.override) == (0.0, '', ())
  with workdir.Workdir(made) as folder:
    folder.claim(5)
  assert record(tmp_path / 'run')['changes'] == []
  # What is given is compared, or changed where it may be.
  assert resume(tmp_path / 'run', keep=2).keep == 2
  with pytest.raises(errors.UsageError, match='^--threads=2: the run in'):
    workdir.Workdir(resume(tmp_path / 'run', threads=2))
  # The rest comes from the run when one setting is overridden.
  longer = resume(tmp_path / 'run', frames=2000, override=('frames',))
  assert (longer.frames, longer.anneal_frames) == (2000, 999)
  with workdir.Workdir(longer) as folder:
    folder.claim(5)
  (change,) = record(tmp_path / 'run')['changes']
  assert change['setting'] == 'frames'
  assert (
    '--frames=2000: the learning rate is 0 from frame 999 on; to change that, '
    '--anneal_frames with --override=anneal_frames'
  ) in caplog.text


def test_defaults_of_a_script_give_way_to_the_run(tmp_path):
  claim(tmp_path, learning_rate=0.125)
  made = resume(tmp_path, instead={'learning_rate': 0.5, 'seconds': 3.0})
  assert (made.learning_rate, made.seconds) == (0.125, 3.0)


def test_a_network_is_not_imported_because_a_folder_says_so(tmp_path):
  claim(tmp_path, network='os:abort')
  with pytest.raises(errors.UsageError) as error:
    resume(tmp_path)
  assert str(error.value) == (
    f'--network: the run in {tmp_path} has os:abort, which decides what code '
    'runs; allowed: --network=os:abort, given again'
  )
  assert resume(tmp_path, network='os:abort').network == 'os:abort'


def test_a_run_of_another_domain_gives_nothing(tmp_path):
  claim(tmp_path, threads=7)
  other = config.make('gym', workdir=str(tmp_path))
  assert other.num_workers == defaults('gym')['threads'][0]
  with pytest.raises(errors.UsageError, match='a run of the domain catch'):
    workdir.Workdir(other)
