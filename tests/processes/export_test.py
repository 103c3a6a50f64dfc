"""experiments/export.py: from a run to a model that is evaluated and loaded."""

import importlib.machinery
import shlex
import shutil
import sys
import types

import jax
import numpy as np
from programs import refused, succeeded
import pytest
from results import change_record, read_record, read_rows
from script_runs import largest_files, refused_as_it_was, run
from walks import NUMBERS, train_catch, walk

import a3c_jax
from a3c_jax.core import errors
from a3c_jax.runs import checkpoints, model_file

EXPORT = 'export.py --workdir=r'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A folder with a run in 'r', evaluated twice, and its model in 'm'."""
  folder = tmp_path_factory.mktemp('trained')
  train_catch(folder / 'r', algo='nstep_q', seed=7)
  evaluate = 'evaluate.py --workdir=r --episodes=3 --threads=1'
  succeeded(run(evaluate, cwd=folder))
  succeeded(run(f'{evaluate} --checkpoint=0', cwd=folder))
  out = succeeded(run(f'{EXPORT} --out=m', cwd=folder))
  assert out == f'parameters of frame {frames_of(folder):,} in m\n'
  return folder


def frames_of(folder):
  return a3c_jax.load(folder / 'r').frames


def test_a_model_is_the_policy_of_its_run(trained):
  of_run, of_model = (a3c_jax.load(trained / name) for name in 'rm')
  assert of_model.frames == of_run.frames > 0
  jax.tree.map(np.testing.assert_array_equal, of_model.params, of_run.params)
  files = sorted(path.name for path in (trained / 'm').iterdir())
  assert files == [
    'README.md',
    'config.json',
    'evaluations.csv',
    'model.safetensors',
  ]


def test_it_has_the_scores_of_its_own_frame_alone(trained):
  latest, first = read_rows(trained / 'r/evaluations.csv')
  assert first['frames'] == '0'
  assert read_rows(trained / 'm/evaluations.csv')[0] == latest
  assert len(read_rows(trained / 'm/evaluations.csv')) == 1


def test_it_scores_what_the_run_does(trained, tmp_path):
  rows = []
  for name in 'rm':
    csv = tmp_path / name
    succeeded(
      run(f'evaluate.py --workdir={name} --episodes=5 --csv={csv}', cwd=trained)
    )
    rows += read_rows(csv)
  assert rows[0] == rows[1]


def test_playing_does_not_change_a_model(trained):
  before = (trained / 'm/evaluations.csv').read_text()
  out = succeeded(run('evaluate.py --workdir=m --episodes=1', cwd=trained))
  assert 'row in' not in out
  assert (trained / 'm/evaluations.csv').read_text() == before


def test_the_card_has_the_command_and_the_scores(trained):
  card = (trained / 'm/README.md').read_text()
  lines = card.splitlines()
  assert lines[0] == '# n-step Q on catch'
  assert lines[2].startswith(
    f'A policy of a3c_jax after {frames_of(trained):,}'
  )
  (command,) = (line for line in lines if line.startswith('a3c-jax train'))
  program, of_run = shlex.split(command)[:3], read_record(trained / 'r')
  assert program == ['a3c-jax', 'train', 'catch']
  assert '--algo=nstep_q --seed=7' in command
  assert f'--frames={of_run["config"]["frames"]}' in command
  (row,) = read_rows(trained / 'm/evaluations.csv')
  score = f'{float(row["mean_return"]):.2f}'
  assert f'| plain | epsilon-greedy 0.05 | 3 | {score} |' in card
  assert 'float16' not in card


def test_the_settings_do_not_tell_where_the_run_was(trained):
  settings = read_record(trained / 'm')['config']
  assert (settings['workdir'], settings['profile']) == ('m', '')
  assert str(trained) not in (trained / 'm/config.json').read_text()


def test_float16_rounds_the_weights(trained, tmp_path):
  out = f'--out={tmp_path}/half --dtype=float16'
  succeeded(run(f'{EXPORT} {out}', cwd=trained))
  half, whole = a3c_jax.load(tmp_path / 'half'), a3c_jax.load(trained / 'm')
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, np.float16(b)),
    half.params,
    whole.params,
  )
  assert {x.dtype for x in jax.tree.leaves(half.params)} == {np.dtype('f4')}
  card = (tmp_path / 'half/README.md').read_text()
  assert 'measured before weights became float16' in card


def test_a_folder_beside_the_model_stays(trained, tmp_path):
  (tmp_path / 'm.new').mkdir()
  (tmp_path / 'm.new/run').touch()
  succeeded(run(f'{EXPORT} --out={tmp_path}/m', cwd=trained))
  assert sorted(path.name for path in tmp_path.iterdir()) == ['m', 'm.new']
  assert (tmp_path / 'm.new/run').exists()


def test_settings_that_changed_are_named(trained, tmp_path):
  shutil.copytree(trained / 'r', tmp_path / 'r')
  changes = [{'frames': 50, 'setting': 'gamma', 'was': 0.9, 'became': 0.99}]
  change_record(tmp_path / 'r', changes=changes)
  succeeded(run(f'{EXPORT} --out=m', cwd=tmp_path))
  card = (tmp_path / 'm/README.md').read_text()
  assert 'They are those of its end: gamma had other values before' in card


def test_statistics_of_observations_are_in_the_model(tmp_path):
  walk(tmp_path / 'r', NUMBERS, normalize_obs=True, eval_frames=0)
  succeeded(run(f'{EXPORT} --out=m', cwd=tmp_path))
  of_run, of_model = (
    checkpoints.read_arrays(tmp_path / name, 'latest')[0]['statistics']
    for name in 'rm'
  )
  assert of_run['count'] > 40
  jax.tree.map(np.testing.assert_array_equal, of_model, of_run)
  assert a3c_jax.load(tmp_path / 'm').frames == 40


def test_code_that_the_settings_name_is_not_imported(trained, tmp_path):
  shutil.copytree(trained / 'r', tmp_path / 'r')
  change_record(tmp_path / 'r', network='evil:make')
  (tmp_path / 'evil.py').write_text('raise SystemExit("imported")')
  succeeded(run(f'{EXPORT} --out=m', cwd=tmp_path))
  with pytest.raises(errors.UsageError, match='--network=evil:make; allowed'):
    a3c_jax.load(tmp_path / 'm')


def test_no_run_trains_in_a_model(trained):
  before = (trained / 'm/config.json').read_text()
  line = refused(run('catch.py --workdir=m --frames=10', cwd=trained))
  assert line.startswith(
    '--workdir=m: holds a model, which has no state of tra'
  )
  assert (trained / 'm/config.json').read_text() == before


@pytest.mark.parametrize(
  ('command', 'hint'),
  [
    ('export.py --out=n', '--workdir=: allowed: a path'),
    (EXPORT, '--out=: allowed: a path'),
    ('export.py --workdir=nowhere --out=n', '--workdir=nowhere: config.json: '),
    ('export.py --workdir=m --out=n', '--workdir=m: is a model already; allo'),
    (f'{EXPORT} --out=r', '--out=r: is there already; allowed: a folder that '),
    (f'{EXPORT} --out=r/config.json', '--out=r/config.json: is there already'),
    (f'{EXPORT} --out=r/config.json/n', '--out=r/config.json/n: Not a direct'),
    (f'{EXPORT} --out=n --checkpoint=17', '--checkpoint=17: checkpoints exist'),
    (f'{EXPORT} --out=n --push_to_hub=me', '--push_to_hub=me: allowed: OWNER'),
    (f'{EXPORT} --out=n --dtype=int8', '--dtype=int8: allowed: float32, float'),
    (
      'evaluate.py --workdir=m --checkpoint=best',
      '--checkpoint=best: this is a model, which has the parameters of frame ',
    ),
  ],
)
def test_bad_input_is_refused_in_one_line(trained, command, hint):
  assert hint in refused_as_it_was(command, trained)


def test_a_full_disk_leaves_nothing(trained, tmp_path):
  with largest_files(1000):
    code, _, err = run(f'{EXPORT} --out={tmp_path}/m', cwd=trained)
  assert code == 1
  assert err.startswith(f'error: --out={tmp_path}/m: File too large; nothing')
  assert [*tmp_path.iterdir()] == []


def test_a_damaged_model_is_refused_in_one_line(trained, tmp_path):
  shutil.copytree(trained / 'm', tmp_path / 'm')
  path = tmp_path / 'm/model.safetensors'
  path.write_bytes(path.read_bytes()[:-1])
  line = refused(run('evaluate.py --workdir=m', cwd=tmp_path))
  assert line.startswith('--workdir=m: model.safetensors is damaged: ')


@pytest.mark.parametrize(
  ('change', 'problem'),
  [
    (
      lambda flat: {'kernel': flat['kernel'].astype(np.complex64)},
      'parameters of complex64, float32, expected float32',
    ),
    (lambda flat: {'kernel': flat['kernel'][:-1]}, 'has shape'),
    (lambda flat: {'mean': flat['mean'][:1]}, 'are of other observations'),
    (
      lambda flat: {'mean': flat['mean'] > 0},
      'mean of observations has no',
    ),
  ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, change, problem):
  """A model that somebody made up, of a run with statistics."""
  train_catch(tmp_path / 'r', normalize_obs=True, eval_frames=0)
  succeeded(run(f'{EXPORT} --out=m', cwd=tmp_path))
  model = model_file.read(tmp_path / 'm')
  (owner,) = (
    layer
    for name, layer in model.arrays['params']['params']['torso'].items()
    if name == 'Linear_0'
  )
  places = {
    'kernel': owner['Dense_0'],
    'mean': model.arrays['statistics'],
  }
  ((name, array),) = change(
    {name: place[name] for name, place in places.items()}
  ).items()
  places[name][name] = array
  model_file.write(tmp_path / 'm', model)
  line = refused(run('evaluate.py --workdir=m', cwd=tmp_path))
  assert line.startswith('--workdir=m: its checkpoint does not fit, ')
  assert problem in line


@pytest.mark.parametrize('content', [b'\xff\xfe\n\x80', b'frames,password\n'])
def test_other_scores_are_refused_in_one_line(trained, tmp_path, content):
  shutil.copytree(trained / 'r', tmp_path / 'r')
  (tmp_path / 'r/evaluations.csv').write_bytes(content)
  line = refused(run(f'{EXPORT} --out=m', cwd=tmp_path))
  assert line.startswith('--workdir=r: evaluations.csv: ')


def test_scores_behind_a_link_are_refused(trained, tmp_path):
  shutil.copytree(trained / 'r', tmp_path / 'r')
  (tmp_path / 'r/evaluations.csv').rename(tmp_path / 'own.csv')
  (tmp_path / 'r/evaluations.csv').symlink_to('../own.csv')
  line = refused(run(f'{EXPORT} --out=m', cwd=tmp_path))
  assert line.startswith('--workdir=r: evaluations.csv: ')


def test_scores_of_another_run_are_left_out(trained, tmp_path):
  shutil.copytree(trained / 'r', tmp_path / 'r')
  path = tmp_path / 'r/evaluations.csv'
  path.write_text(
    path.read_text().replace('nstep_q,catch,7', 'nstep_q,catch,8')
  )
  succeeded(run(f'{EXPORT} --out=m', cwd=tmp_path))
  assert not (tmp_path / 'm/evaluations.csv').exists()
  assert 'It was not evaluated' in (tmp_path / 'm/README.md').read_text()


class Hub(types.ModuleType):
  """huggingface_hub, with a folder in place of the hub."""

  def __init__(self, folder, token='secret', fails=False):
    super().__init__('huggingface_hub')
    self.__spec__ = importlib.machinery.ModuleSpec('huggingface_hub', None)
    self._folder, self._token, self._fails = folder, token, fails

  def get_token(self):
    return self._token

  def create_repo(self, repo_id, *, exist_ok):
    (self._folder / repo_id).mkdir(parents=True, exist_ok=exist_ok)

  def upload_folder(self, *, repo_id, folder_path, commit_message):
    if self._fails:
      raise OSError('no network\nat all')
    assert commit_message == 'n-step Q on catch'
    shutil.copytree(folder_path, self._folder / repo_id, dirs_exist_ok=True)
    return f'https://hub/{repo_id}'


def test_a_model_is_uploaded_as_it_is_written(trained, tmp_path, monkeypatch):
  command = f'--workdir={trained}/r --out={tmp_path}/m --push_to_hub=me/catch'
  monkeypatch.setitem(sys.modules, 'huggingface_hub', Hub(tmp_path / 'hub'))
  out = succeeded(run(f'export.py {command}', cwd=tmp_path))
  assert out.endswith('uploaded: https://hub/me/catch\n')
  uploaded = a3c_jax.load(tmp_path / 'hub/me/catch')
  written = a3c_jax.load(tmp_path / 'm')
  jax.tree.map(np.testing.assert_array_equal, uploaded.params, written.params)


@pytest.mark.parametrize(
  ('hub', 'message'),
  [
    ({'token': None}, '--push_to_hub=me/catch: nobody is logged in; allowed'),
    (None, '--push_to_hub=me/catch: huggingface_hub is not installed; pip'),
  ],
)
def test_without_a_login_nothing_is_written(
  trained, tmp_path, monkeypatch, hub, message
):
  monkeypatch.setitem(
    sys.modules, 'huggingface_hub', hub and Hub(tmp_path / 'hub', **hub)
  )
  command = f'--workdir={trained}/r --out=m --push_to_hub=me/catch'
  if hub is None:
    monkeypatch.delitem(sys.modules, 'huggingface_hub')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  line = refused(run(f'export.py {command}', cwd=tmp_path))
  assert line.startswith(message)
  assert list(tmp_path.iterdir()) == []


def test_a_hub_that_cannot_be_reached(trained, tmp_path, monkeypatch):
  hub = Hub(tmp_path / 'hub', fails=True)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  command = f'--workdir={trained}/r --out=m --push_to_hub=me/catch'
  code, _, err = run(f'export.py {command}', cwd=tmp_path)
  assert (code, err) == (
    1,
    'error: --push_to_hub=me/catch: no network at all; the model is in m\n',
  )
  assert a3c_jax.load(tmp_path / 'm').frames > 0
