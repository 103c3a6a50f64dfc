"""experiments/evaluate.py, from its first line on, in this process."""

import os
import shutil

from programs import finish, refused, start_script, succeeded
import pytest
from results import change_record, read_rows
import script_runs
from script_runs import evaluate_own, refused_as_it_was, run

from a3c_jax.envs import catch, domain

EVALUATE = 'evaluate.py --workdir=results'


def test_training_evaluates_on_the_way_and_at_the_end(trained):
  rows = read_rows(trained / 'results/eval.csv')
  frames = int(read_rows(trained / 'results/train.csv')[-1]['frames'])
  assert int(rows[-1]['frames']) == frames
  for row in rows:
    assert (row['protocol'], row['policy']) == ('plain', 'sampled')
    assert row['episodes'] == '10'
    assert -1 <= float(row['mean_return']) <= 1
    assert row['human_normalized'] == ''
  best = max(rows, key=lambda row: float(row['mean_return']))
  (kept,) = (trained / 'results/best').iterdir()
  assert kept.name == best['frames']


def test_evaluate_prints_and_records_its_result(trained):
  command = f'{EVALUATE} --episodes=5'
  out = succeeded(run(command, cwd=trained))
  assert '5 episodes, plain: the environment as it is' in out
  assert out.endswith('row in results/evaluations.csv\n')
  succeeded(run(f'{command} --policy=greedy --threads=1', cwd=trained))
  rows = read_rows(trained / 'results/evaluations.csv')
  assert [row['policy'] for row in rows] == ['sampled', 'greedy']
  for row in rows:
    names = ('algo', 'env', 'protocol')
    assert [row[name] for name in names] == ['a3c', 'catch', 'plain']
    assert (row['episodes'], row['mean_steps']) == ('5', '9.0')
    assert (
      row['frames'] == read_rows(trained / 'results/eval.csv')[-1]['frames']
    )


def test_episodes_are_truncated_at_the_frames_that_are_asked_for(trained):
  # Those of Catch have 9 steps, of a frame each.
  for most, truncated in ((9, 0), (8, 4)):
    flags = f'--max_eval_episode_frames={most} --csv={most}.csv'
    out = succeeded(run(f'{EVALUATE} --episodes=4 {flags}', cwd=trained))
    line = '4 of 4 episodes were truncated, at 8 frames'
    assert (line in out) == bool(truncated)
    (row,) = read_rows(trained / f'{most}.csv')
    assert row['truncated_episodes'] == str(truncated)
    assert row['mean_steps'] == f'{most}.0'


EARLIER = (
  'algo,env,seed,frames,protocol,policy,eval_seed,episodes,mean_return,'
  'median_return,standard_error,lowest_return,highest_return,mean_steps,'
  'human_normalized'
)


def test_a_table_of_an_earlier_version_keeps_its_columns(trained):
  path = trained / 'earlier.csv'
  path.write_text(f'{EARLIER}\r\n')
  succeeded(run(f'{EVALUATE} --episodes=2 --csv=earlier.csv', cwd=trained))
  (row,) = read_rows(path)
  assert ','.join(row) == EARLIER
  assert (row['mean_steps'], row['human_normalized']) == ('9.0', '')


def test_a_score_is_kept_though_environments_cannot_be_closed(
  trained, monkeypatch
):
  def close(self):
    raise AttributeError('no viewer')

  monkeypatch.setattr(catch.Catch, 'close', close)
  command = f'{EVALUATE} --episodes=2 --threads=2 --csv=closed.csv'
  code, out, err = run(command, cwd=trained)
  assert code == 0
  assert out.endswith('row in closed.csv\n')
  assert err == (
    "warning: closing 2 of 2 environments raised AttributeError('no viewer')\n"
  )
  assert len(read_rows(trained / 'closed.csv')) == 1


@pytest.mark.parametrize(
  ('command', 'hint'),
  [
    ('evaluate.py', '--workdir=: allowed: a path'),
    ('evaluate.py --workdir=nowhere', '--workdir=nowhere: config.json: No suc'),
    (f'{EVALUATE} --protocol=human', '--protocol=human: allowed for catch: pl'),
    (f'{EVALUATE} --protocol=noop30', '--protocol=noop30: allowed for catch: '),
    (f'{EVALUATE} --policy=mean', '--policy=mean: allowed for catch: sample, '),
    (f'{EVALUATE} --checkpoint=1e3', '--checkpoint=1e3: allowed'),
    (f'{EVALUATE} --checkpoint=17', '--checkpoint=17: checkpoints'),
    (f'{EVALUATE} --checkpoint={5000 * "9"}', '9…: allowed: latest, best, or'),
    (f'{EVALUATE} --video=/dev/null/videos', '--video=/dev/null'),
    (f'{EVALUATE} --csv=results', '--csv=results: '),
    (f'{EVALUATE} --csv={300 * "x"}', 'x: File name too long; allowed: a file'),
    (f'{EVALUATE} --csv=/dev/full', '--csv=/dev/full: is no file'),
    (f'{EVALUATE} --csv=nowhere/a.csv', 'nowhere is not a folder'),
    (f'{EVALUATE} --csv=results/train.csv', 'train.csv: has other columns'),
    (f'{EVALUATE} --env=CartPole-v1', '--env=CartPole-v1: the run has catch; '),
    (f'{EVALUATE} --network=nips', '--network=nips: the run has'),
    (f'{EVALUATE} --episodes=0', '--episodes=0: allowed'),
    (
      f'{EVALUATE} --exploration_epsilon=0.5',
      '--exploration_epsilon=0.5: allowed for value-based',
    ),
  ],
  ids=lambda text: text[:60],
)
def test_evaluate_refuses_bad_input_in_one_line(trained, command, hint):
  assert hint in refused_as_it_was(command, trained)


def test_a_full_disk_costs_the_row_and_not_the_result(trained):
  command = f'{EVALUATE} --episodes=2 --threads=1 --csv=full.csv'
  succeeded(run(command, cwd=trained))
  path = trained / 'full.csv'
  path.write_text(path.read_text() + '0,' * 2**16 + '\n')
  before = path.read_bytes()
  with script_runs.largest_files(len(before) + 10):
    code, out, err = run(command, cwd=trained)
  assert code == 1
  assert '2 episodes, plain' in out
  assert 'mean ' in out
  assert err == (
    'error: --csv=full.csv: File too large; the result is printed above, but '
    'has no row\n'
  )
  assert path.read_bytes() == before


@pytest.fixture
def copied(trained, tmp_path):
  """A folder with a copy of the run on Catch, without evaluations."""
  shutil.copytree(trained / 'results', tmp_path / 'results')
  (tmp_path / 'results/evaluations.csv').unlink(missing_ok=True)
  return tmp_path


@pytest.mark.parametrize('there', [True, False])
def test_evaluations_are_not_written_through_a_link(copied, there):
  # A row that was never finished stays one for itself.
  before = f'{EARLIER}\r\na3c,cat'
  if there:
    (copied / 'mine').write_text(before)
  (copied / 'results/evaluations.csv').symlink_to('../mine')
  line = refused(run(EVALUATE, cwd=copied))
  assert line.startswith('--csv=results/evaluations.csv: is a link')
  if there:
    assert (copied / 'mine').read_bytes() == before.encode()
    # The user's own link is the user's own word.
    (copied / 'link.csv').symlink_to('mine')
    succeeded(run(f'{EVALUATE} --episodes=1 --csv=link.csv', cwd=copied))
    unfinished, row = read_rows(copied / 'mine')
    assert (unfinished['env'], unfinished['seed']) == ('cat', None)
    assert (row['env'], row['episodes']) == ('catch', '1')
  else:
    assert not (copied / 'mine').exists()


def test_evaluations_do_not_wait_for_a_pipe(copied):
  os.mkfifo(copied / 'results/evaluations.csv')
  line = refused(run(EVALUATE, cwd=copied))
  assert line.startswith('--csv=results/evaluations.csv: is no file; allowed: ')


STRANGER = """
import pathlib
pathlib.Path(__file__).with_name('imported').touch()
"""


@pytest.mark.parametrize(
  ('changes', 'named'),
  [
    ({'network': 'mine:run'}, '--network=mine:run'),
    ({'domain': 'gym', 'environment': {'env': 'mine:run'}}, '--env=mine:run'),
    (
      {'domain': 'control', 'environment': {'env': 'mine:Game-v0'}},
      '--env=mine:Game-v0',
    ),
    (
      {
        'domain': 'gym',
        'environment': {'env': 'mine:run'},
        'network': 'os:abort',
      },
      '--env=mine:run --network=os:abort',
    ),
    ({'network': 'mine:\x1b]0;title\x07'}, '--network=mine:?]0;title?'),
  ],
)
def test_evaluate_imports_nothing_that_a_workdir_names(copied, changes, named):
  (copied / 'mine.py').write_text(STRANGER)
  change_record(copied / 'results', **changes)
  line = refused(run(EVALUATE, cwd=copied))
  assert line == (
    '--workdir=results: its config.json names code that would be '
    f'imported and called: {named}; allowed: --env and --network as the run '
    'has them, or --trust_workdir (in Python: trust=True), if you trust where '
    'it comes from'
  )
  for script in ('plot.py', 'evaluate.py'):
    run(script, '--workdir=results', cwd=copied)
  assert not (copied / 'imported').exists()


def test_evaluate_runs_what_the_user_names_or_trusts(own):
  (own / 'mine.py').write_text(script_runs.MODULE)
  for flag in ('--env=mine:make', '--trust_workdir'):
    succeeded(run(f'{EVALUATE} --episodes=1 {flag}', cwd=own))
  for flag, hint in (
    ('--network=auto', 'called: --env=mine:make; allowed'),
    ('--env=mine:other', '--env=mine:other: the run has mine:make; allowed'),
  ):
    assert hint in refused(run(f'{EVALUATE} {flag}', cwd=own))


def test_an_environment_that_has_changed_is_told_in_one_line(own):
  changed = script_runs.MODULE.replace('columns=3', 'columns=4')
  (own / 'mine.py').write_text(changed)
  line = refused(evaluate_own(own))
  assert line.startswith(
    '--workdir=results: the observation space of mine:make is Box('
  )


def test_reading_a_workdir_from_within_imports_nothing_from_it(copied):
  for name in ('moviepy', 'PIL', 'matplotlib', 'ale_py'):
    (copied / 'results' / f'{name}.py').write_text(STRANGER)
  process = start_script(
    'evaluate.py --workdir=. --episodes=1 --video=videos',
    cwd=copied / 'results',
  )
  succeeded(finish(process))
  assert not (copied / 'results/imported').exists()


def test_text_of_a_run_is_no_formula_in_its_evaluations(copied, monkeypatch):
  monkeypatch.setattr(domain, '_registered', {})
  domain.register(
    catch.DOMAIN._replace(name='formula', env_name=lambda options: '=1+1')
  )
  change_record(copied / 'results', domain='formula')
  succeeded(run(f'{EVALUATE} --episodes=1', cwd=copied))
  (row,) = read_rows(copied / 'results/evaluations.csv')
  assert (row['env'], row['algo']) == ("'=1+1", 'a3c')
  assert float(row['mean_return']) in (-1, 1)
