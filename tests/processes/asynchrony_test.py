"""experiments/asynchrony.py: its studies, from runs to a picture."""

from programs import ROOT, refused, succeeded
import pytest
from results import read_rows
from script_runs import run as run_script

from a3c_jax.reproduce import asynchrony
from a3c_jax.reproduce.asynchrony import Arm, Point, Result


def make_runs(name, extra=(), **options):
  options = asynchrony.Options(**options)
  return asynchrony.make_runs(
    asynchrony.check(name, options),
    options,
    extra,
    scripts=ROOT / 'experiments',
  )


def flags(run):
  """The flags of a run's command."""
  return dict(part.lstrip('-').split('=', 1) for part in run.command[1:])


def test_the_study_of_lag():
  made = make_runs('lag')
  assert len(made) == 4 * 7 * 3
  runs = asynchrony.in_order(made)
  # A lag of 0 needs no correction, and 1 / lag is 1 for a lag of 1.
  assert len(runs) == 4 * (7 + 5 + 6) * 5
  assert len({run.name for run in runs}) == len(runs)
  # There is soon one of each.
  assert [run.seed for run in runs[:72]] == 72 * [1]
  for run in runs:
    given = flags(run)
    assert given['threads'] == '1'
    assert given['frames'] == '40000'
    assert given['learning_rate'] == '0.003'
  at = lambda correction, lag: [
    flags(run)
    for (method, arm), runs in made.items()
    if (method, arm.series, arm.setting) == ('a3c', correction, lag)
    for run in runs
  ]
  for given in at('inverse', '8'):
    assert given['inject_lag'] == '8'
    assert given['staleness_rate'] == 'inverse'
    assert 'delay_compensation' not in given
  for given in at('compensation', '8'):
    assert given['delay_compensation'] == '0.04'
    assert 'staleness_rate' not in given
  assert at('inverse', '1') == at('none', '1') != at('compensation', '1')
  assert at('compensation', '0') == at('none', '0')
  assert 'inject_lag' not in at('none', '0')[0]


def test_studies_of_several_threads():
  made = make_runs('consistency', methods=('nstep_q',), seeds=2)
  changed = lambda arm: ' '.join(f'{name}={value}' for name, value in arm.flags)
  assert [changed(arm) for _, arm in made] == [
    'threads=4',
    'threads=4 consistency=per_leaf',
    'threads=4 consistency=hogwild',
    'threads=4 runtime=synchronous',
  ]
  by_threads = make_runs('threads', methods=('nstep_q',), seeds=2)
  assert [arm.setting for _, arm in by_threads] == ['1', '2', '4', '8', '16']
  # Four threads with one lock are in both.
  shared = {*asynchrony.in_order(made)} & {*asynchrony.in_order(by_threads)}
  assert [flags(run)['threads'] for run in shared] == ['4', '4']


def test_the_study_of_policy_lag():
  made = make_runs('policy_lag', lags=(0, 30), seeds=1)
  given = [flags(run) for run in asynchrony.in_order(made)]
  assert [(x['inject_lag'], x['lag_correction']) for x in given] == [
    (lag, correction)
    for lag in ('0', '30')
    for correction in ('none', 'epsilon', 'vtrace')
  ]
  for each in given:
    assert (each['algo'], each['runtime'], each['agents']) == (
      *('a3c', 'queues', '4'),
    )


def test_a_game_of_the_paper_has_the_quick_preset_and_its_schedules():
  made = make_runs('lag', game='pong', methods=('a3c', 'nstep_q'), lags=(2,))
  for run in asynchrony.in_order(made):
    given = flags(run)
    assert given['preset'] == 'quick'
    assert given['learning_rate'] == '0.001'
    assert given['frames'] == '1500000'
    assert 'exploration_anneal_frames' not in given
    a3c = run.method == 'a3c'
    assert given['anneal_frames'] == ('20000000' if a3c else '14000000')
    assert given['eval_frames'] == ('1500000' if a3c else '150000')


def result(rate, mean, *, end=0.0):
  made = make_runs(
    'threads', methods=('a3c',), threads=(1,), learning_rates=(rate,), seeds=1
  )
  ((run,),) = made.values()
  return Result(run, 10, 0.0, end, mean)


def test_the_best_learning_rate_of_each_point_counts():
  arm = Arm('1', '', (('threads', 1),))
  results = [result(1e-3, 0.5, end=0.9), result(3e-3, 0.6), result(3e-3, 0.2)]
  # The second and third are seeds of one rate.
  results[2] = results[2]._replace(run=results[2].run._replace(seed=2))
  made = {('a3c', arm): [x.run for x in results]}
  by_run = {x.run: x for x in results}
  assert [*asynchrony.points(made, by_run)] == [
    Point('a3c', arm, 1e-3, results[:1])
  ]
  # A run without a result does not count, and no point is made of none.
  del by_run[results[2].run]
  assert [*asynchrony.points(made, by_run)] == [
    Point('a3c', arm, 3e-3, results[1:2])
  ]
  assert [*asynchrony.points(made, {})] == []


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'no study: allowed: lag, consistency, threads, policy_lag, first'),
    (['lags'], 'lags: allowed: lag, consistency, threads, policy_lag, first'),
    (['lag', '--game=pnog'], '--game=pnog: allowed: catch, cartpole, alien'),
    (['lag', '--methods=dqn'], '--methods=dqn: allowed: a3c, nstep_q'),
    (['lag', '--lags=1,1'], '--lags=1,1: allowed: whole numbers'),
    (['lag', '--lags=-1'], '--lags=-1: allowed: whole numbers'),
    (['lag', '--corrections=no'], '--corrections=no: allowed: none, inverse'),
    (['lag', '--corrections=vtrace'], '--corrections=vtrace: allowed for lag'),
    (
      ['policy_lag', '--methods=nstep_q'],
      '--methods=nstep_q: allowed for policy_lag: a3c',
    ),
    (['lag', '--threads=2'], '--threads=2: allowed for lag: no --threads'),
    (['threads', '--lags=2'], '--lags=2: allowed for threads: no --lags'),
    (['threads', '--compensation=1'], '--compensation=1.0: allowed for thre'),
    (['threads', '--threads=0'], '--threads=0: allowed: whole numbers from 1'),
    (['consistency', '--threads=2,4'], '--threads=2,4: allowed for consist'),
    (['lag', '--learning_rates=0'], '--learning_rates=0.0: allowed: numbers'),
    (['lag', '--seeds=0'], '--seeds=0: allowed: '),
    (['lag', '--frames=-1'], '--frames=-1: allowed: '),
    (['lag', '--compensation=0'], '--compensation=0.0: allowed: '),
    (['lag', '--workdir=file'], '--workdir=file: '),
    (['lag', '--', '--seed=3'], '--seed=3 after lag: allowed: -- and then'),
  ],
)
def test_bad_input_ends_in_one_line(arguments, message, tmp_path):
  (tmp_path / 'file').write_text('')
  line = refused(run_script('asynchrony.py', *arguments, cwd=tmp_path))
  assert line.startswith(message)
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_study_from_its_runs_to_its_picture(tmp_path):
  pytest.importorskip('matplotlib')
  arguments = (
    *('asynchrony.py', 'lag', '--methods=one_step_q', '--lags=0,3'),
    *('--corrections=none,inverse', '--seeds=1', '--frames=900'),
    *('--parallel=2', '--workdir=results', '--', '--gamma=0.9'),
  )
  out = succeeded(run_script(*arguments, cwd=tmp_path))
  assert out.startswith(
    'lag on catch, 0.0009 million frames per run, 1 seed, --gamma=0.9\n'
  )
  assert out.endswith('results/lag.csv and .png\n')
  assert out.count('starts') == 3
  rows = read_rows(tmp_path / 'results/lag.csv')
  cells = [(row['setting'], row['series'], row['seed']) for row in rows]
  assert cells == [
    (lag, correction, '1') for lag in '03' for correction in ('none', 'inverse')
  ]
  for row in rows:
    # The first gradients have a smaller lag, as none is held before them.
    full = int(row['setting'])
    sum_of_first = full * (full - 1) // 2
    updates = int(row['updates'])
    lag = (full * (updates - full) + sum_of_first) / updates
    assert float(row['lag']) == pytest.approx(lag, abs=0.04)
    assert -1 <= float(row['mean_score']) <= 1
  assert rows[0]['final_score'] == rows[1]['final_score']  # The same run.
  png = tmp_path / 'results/lag.png'
  assert png.read_bytes().startswith(b'\x89PNG')
  # All is there now: no run starts.
  again = succeeded(run_script(*arguments, cwd=tmp_path))
  assert 'starts' not in again
  assert read_rows(tmp_path / 'results/lag.csv') == rows
  line = refused(run_script(*arguments[:-1], cwd=tmp_path))
  assert line.startswith('--workdir=results: its run catch-one_step_q-threads-')
