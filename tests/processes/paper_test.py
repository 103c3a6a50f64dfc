"""experiments/paper.py: its plans, and every figure from runs to a picture."""

import re
import shutil
import signal

from processes import wait_until
from programs import ROOT, finish, refused, start_script, succeeded
import pytest
from results import read_rows
from script_runs import run as run_script

from a3c_jax.algorithms import registry
from a3c_jax.reproduce import headings, plan, published

SMALL = (
  '--games=catch',
  '--scale=0.01',
  '--threads=1',
  '--learning_rates=3e-3',
)
FIGURES = {
  'fig1': ('--methods=a3c,nstep_q,dqn',),
  'fig2': ('--methods=a3c', '--learning_rates=3e-3,1e-3'),
  'fig3': ('--methods=a3c', '--threads=1,2'),
  'fig4': ('--methods=a3c', '--threads=1,2'),
  'table2': ('--methods=a3c', '--threads=1,2', '--reference_score=-0.9'),
  'figs5': ('--methods=a3c',),
}


def make_runs(name, extra=(), **options):
  return plan.make_runs(
    plan.FIGURES[name],
    plan.Options(**options),
    extra,
    scripts=ROOT / 'experiments',
  )


def flag(run, name):
  """The value of a flag in a run's command."""
  (value,) = (
    argument.partition('=')[2]
    for argument in run.command
    if argument.startswith(f'--{name}=')
  )
  return value


@pytest.mark.parametrize(
  ('name', 'count'),
  [
    ('fig1', 4 * 5 * 50 + 5 * 5),
    ('fig2', 4 * 5 * 50),
    ('fig3', 4 * 5 * 5 * 50),
    ('fig4', 4 * 5 * 5 * 50),
    ('figs5', 2 * 4 * 3 * 50),
    ('table1', (3 + 4) * 57),
    ('table2', 4 * 7 * 5 * 50),
  ],
)
def test_a_whole_plan_has_the_runs_of_the_paper(name, count):
  runs = make_runs(name)
  assert len(runs) == count
  assert len({run.name for run in runs}) == count
  for run in runs:
    frames = int(flag(run, 'frames'))
    assert frames == run.frames
    if 'dqn' in run.method:
      assert flag(run, 'anneal_frames') == '0'
    else:
      assert flag(run, 'anneal_frames') == str(frames)
    assert frames / 1e6 in (196, 200, 320, 1_000)


def test_dqn_has_seeds_and_its_own_settings():
  runs = make_runs('fig1', methods=('a3c', 'dqn'), games=('pong',), scale=0.4)
  ours = [run for run in runs if run.method == 'dqn']
  assert [run.seed for run in ours] == [1, 2]
  assert len(runs) == 20 + 2
  for run in ours:
    assert (run.optimizer, run.threads) == ('centered_rmsprop', 1)
    assert run.learning_rate == 2.5e-4
    assert flag(run, 'algo') == 'dqn'
    assert flag(run, 'learning_rate') == '0.00025'
  # What the options give holds for it, too.
  (run,) = make_runs(
    'fig1',
    methods=('dqn',),
    threads=(2,),
    learning_rates=(1e-3,),
    games=('pong',),
  )
  assert (run.threads, run.learning_rate, run.seed) == (2, 1e-3, 1)


def test_seeds_of_each_learning_rate():
  given = {'games': ('pong',), 'scale': 0.04, 'seeds': 3}
  runs = make_runs('fig1', methods=('a3c', 'dqn'), **given)
  # Two rates of A3C, and the one of DQN, which has no search.
  assert [(run.method, run.seed) for run in runs] == [
    *[('a3c', 1), ('dqn', 1), ('a3c', 2)],
    *[('a3c', 2), ('dqn', 2), ('a3c', 3)],
    *[('a3c', 3), ('dqn', 3), ('a3c', 4)],
  ]
  assert len({run.name for run in runs}) == len(runs)
  for run in runs:
    assert flag(run, 'seed') == str(run.seed)
    first = 7e-4 if run.method == 'a3c' else 2.5e-4
    assert (run.learning_rate == first) == (run in runs[0::3] + runs[1::3])
  # More seeds leave those of fewer as they are.
  fewer = make_runs('fig1', methods=('a3c', 'dqn'), **given | {'seeds': 1})
  assert fewer == runs[:3]
  title = headings.title(
    'fig1',
    plan.FIGURES['fig1'],
    plan.Options(**given),
    extra=[],
    runs=runs,
  )
  assert '2 of 50 learning rates, curves of the best 1 ' in title
  assert title.count('seeds') == 1 and ', 3 seeds, ' in title
  row = make_runs('table1', games=('pong',), seeds=2, methods=('a3c_1_day',))
  assert [run.seed for run in row] == [1, 2]


def test_rows_of_table_1_that_learn_from_a_replay_memory():
  runs = make_runs('table1', games=('pong',))
  ours = [run for run in runs if run.method in registry.names()]
  assert {(run.method, run.learning_rate) for run in ours} == {
    ('dqn', 2.5e-4),
    ('double_dqn', 2.5e-4),
    ('dueling_dqn', 2.5e-4),
    ('prioritized_dqn', 6.25e-5),
  }
  assert {flag(run, 'threads') for run in ours} == {'1'}


def test_a_scale_shrinks_frames_and_learning_rates_but_not_the_schedule():
  whole = make_runs('fig2')
  runs = make_runs('fig2', scale=0.05)
  assert len(runs) == 4 * 5 * 3
  assert {run.frames for run in runs} == {9_800_000}
  # 50 x 0.14 is a little more than 7 in floating point.
  seventh = make_runs('fig2', scale=0.14)
  assert len(seventh) == 4 * 5 * 7
  assert {run.frames for run in seventh} == {27_440_000}
  assert {flag(run, 'anneal_frames') for run in runs} == {'196000000'}
  # The same runs as those of the whole, so that seeds and rates agree.
  assert {run.name for run in runs} < {run.name for run in whole}
  assert sum(run.seconds for run in runs) == pytest.approx(
    sum(run.seconds for run in whole) * 0.05 * 3 / 50
  )


def test_figures_share_their_runs():
  names = {name: {run.name for run in make_runs(name)} for name in plan.FIGURES}
  assert names['fig2'] < names['fig1'] and names['fig2'] < names['fig3']
  assert names['fig3'] == names['fig4']
  assert names['fig3'] < names['table2']
  assert names['figs5'] & names['fig1']


def test_learning_rates_are_drawn_as_in_the_paper():
  rates = plan.learning_rates('atari', 50)
  assert rates[0] == 7e-4
  assert len(set(rates)) == 50
  assert all(1e-4 <= rate <= 1e-2 for rate in rates)
  # Evenly on a logarithmic scale: 25 on each side of 1e-3, give or take 3.5.
  assert 15 < sum(rate < 1e-3 for rate in rates) < 35
  assert plan.learning_rates('atari', 3) == rates[:3]
  runs = make_runs('fig2', scale=0.1, games=('pong',), methods=('a3c',))
  assert [run.learning_rate for run in runs] == rates[:5]
  assert [run.seed for run in runs] == [1, 2, 3, 4, 5]


def test_value_methods_are_evaluated_on_the_way():
  for run in make_runs('fig1', games=('pong',), scale=0.1):
    expected = run.frames if run.method == 'a3c' else run.frames // 25
    assert int(flag(run, 'eval_frames')) == expected


def test_a_heading_tells_all_that_is_not_the_papers():
  given = {'scale': 0.2, 'games': ('pong',), 'parallel': 2, 'threads': (4,)}
  runs = make_runs('fig1', ['--t_max=20'], **given)
  title = headings.title(
    'fig1',
    plan.FIGURES['fig1'],
    plan.Options(**given),
    extra=['--t_max=20'],
    runs=runs,
  )
  assert title == (
    'fig1 at scale 0.2: 39.2 million frames per run, 10 of 50 learning rates, '
    'curves of the best 1 (paper: best 5 of 50), 1 of 5 seeds of dqn, 4 '
    'threads, 2 runs at once, --t_max=20'
  )
  assert all(run.command[-1] == '--t_max=20' for run in runs)


def test_table_1_is_of_the_large_network():
  runs = make_runs('table1')
  assert {run.game for run in runs} == {*published.atari57()}
  a3c = [run for run in runs if flag(run, 'algo') == 'a3c']
  assert all('--network=nature' in run.command for run in a3c)
  lstm = [run for run in runs if '--lstm' in run.command]
  assert {run.method for run in lstm} == {'a3c_lstm_4_days'}
  assert {flag(run, 'eval_episodes') for run in runs} == {'30'}
  assert {flag(run, 'eval_protocol') for run in runs} == {'noop30'}
  assert not any('t_max' in flag for run in runs for flag in run.command)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'no figure: allowed: fig1, fig2, fig3, fig4, figs5, table1, table2'),
    (['fig9'], 'fig9: allowed: fig1, '),
    (['fig1', '--scale=0'], '--scale=0.0: allowed: above 0, up to 1'),
    (['fig1', '--scale=1.5'], '--scale=1.5: allowed: above 0, up to 1'),
    (['fig1', '--games=pnog'], '--games=pnog: allowed for fig1: alien, '),
    (['table1', '--games=catch'], '--games=catch: allowed for table1: alien'),
    (['figs5', '--methods=one_step_q'], '--methods=one_step_q: allowed for '),
    (['fig3', '--threads=0,1'], '--threads=0,1: allowed: whole numbers'),
    (['fig3', '--threads=1,x'], '--threads=1,x: allowed: whole numbers'),
    (['fig2', '--learning_rates=0'], '--learning_rates=0.0: allowed: numbers'),
    (['fig1', '--reference_score=1'], '--reference_score=1: allowed for fig'),
    (['fig1', '--seeds=0'], '--seeds=0: allowed: a whole number, 1 to 100'),
    (['fig1', '--seeds=2.5'], '--seeds=2.5'),
    (['fig1', '--threads=1,2'], '--threads=1,2: allowed for fig1: one'),
    (['fig3', '--threads=1,1'], '--threads=1,1: allowed for fig3: each once'),
    (['fig1', '--games=pong,pong'], '--games=pong,pong: allowed for fig1: ea'),
    (['fig2', '--learning_rates=1,1e0'], '--learning_rates=1.0,1.0: allowed'),
    (['table1', '--learning_rates=1,2'], '--learning_rates=1.0,2.0: allowed'),
    (['fig1', '--games=catch', '--workdir=file'], '--workdir=file: '),
    (['fig1', '--parallel=0'], '--parallel=0: allowed: '),
    (['fig1', '--', '--seed=3'], '--seed=3 after fig1: allowed: -- and then'),
    (['fig1', '--', '--workdir=x'], '--workdir=x after fig1: allowed: '),
    (['fig1', 'fig2'], 'fig2 after fig1: allowed: -- and then flags of the'),
    (['fig1', '--', '--t_max=4', '--t_max=5'], '--t_max=5 after fig1: allowed'),
    (['table1', '--', '--nolstm'], '--nolstm after table1: allowed: '),
    (['table1', '--', '--eval_protocol=sticky'], '--eval_protocol=sticky aft'),
  ],
)
def test_bad_input_ends_in_one_line(arguments, message, tmp_path):
  (tmp_path / 'file').write_text('')
  line = refused(run_script('paper.py', *arguments, cwd=tmp_path))
  assert line.startswith(message)
  assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_dry_run_tells_the_cost_and_leaves_nothing(tmp_path):
  out = succeeded(
    run_script(
      'paper.py fig3 --games=pong --scale=0.02 --dry_run', cwd=tmp_path
    )
  )
  first, header, *rows, last = out.splitlines()
  assert first == (
    'fig3 at scale 0.02: 3.92 million frames per run, 1 of 50 learning rates, '
    'curves of the best 1 (paper: best 3 of 50)'
  )
  assert header.split() == [
    'game', 'method', 'optimizer', 'threads', 'runs', 'finished', 'frames',
    'core-hours',
  ]  # fmt: skip
  assert len(rows) == 4 * 5
  assert re.fullmatch(
    r'20 runs, 78,400,000 frames, (\d+\.\d\d) core-hours, of which \1 are left',
    last,
  )
  assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  pytest.importorskip('matplotlib')
  return tmp_path_factory.mktemp('paper')


@pytest.mark.parametrize('name', FIGURES)
def test_every_figure_of_a_small_game(folder, name):
  arguments = ('paper.py', name, '--workdir=results', *SMALL, *FIGURES[name])
  out = succeeded(run_script(*arguments, cwd=folder))
  assert out.startswith(f'{name} at scale 0.01: 0.002 million frames per run,')
  assert out.endswith(f'results/{name}.csv and .png\n')
  rows = read_rows(folder / f'results/{name}.csv')
  assert {row['game'] for row in rows} == {'catch'}
  assert (folder / f'results/{name}.png').read_bytes().startswith(b'\x89PNG')
  # All is there now: the same table, and no run starts.
  out = succeeded(run_script(*arguments, cwd=folder))
  assert 'starts' not in out
  assert read_rows(folder / f'results/{name}.csv') == rows
  code, out, err = run_script(*arguments, '--dry_run', cwd=folder)
  assert out.endswith(', of which 0.00 are left\n')


def test_runs_of_another_scale_are_refused(folder):
  plan_of_one = ('paper.py fig1 --methods=a3c --workdir=other', *SMALL)
  run_here = lambda *given: run_script(*plan_of_one, *given, cwd=folder)
  # That no run came of is no matter.
  code, _, err = run_here('--', '--gamma=2')
  assert code == 2
  assert err == (
    'error: catch-a3c-1threads-0.003-seed1 failed, exit code 2, as 1 of 1; its '
    'log ends with: error: --gamma=2.0: allowed: 0 to 1\n'
  )
  assert run_here()[0] == 0
  command = folder / 'other/runs/catch-a3c-1threads-0.003-seed1.command'
  text = command.read_text()
  assert text.startswith(str(ROOT / 'experiments/catch.py'))
  assert ' --frames=2000 ' in text
  for given, was in [
    (('--scale=0.02',), 'with --frames=2000'),
    (('--scale=0.02', '--dry_run'), 'with --frames=2000'),
    (('--', '--t_max=4'), 'without --t_max=4'),
    ((), 'without a record of its command'),
  ]:
    if not given:
      command.unlink()
    line = refused(run_here(*given))
    assert line.startswith(
      '--workdir=other: its run catch-a3c-1threads-0.003-seed1 was '
      f'started {was}; '
    )


def test_a_plan_whose_flags_no_run_takes_is_given_up(tmp_path):
  pytest.importorskip('matplotlib')
  command = 'paper.py fig3 --games=catch --scale=0.01 -- --gamma=2'
  code, out, err = run_script(command, cwd=tmp_path)
  assert code == 2
  assert out.count('failed, exit code 2') == 3
  assert 'to resume' not in out
  assert err.endswith(
    'failed, exit code 2, as 3 of 20; its log ends with: error: --gamma=2.0: '
    'allowed: 0 to 1\n'
  )


@pytest.mark.long
def test_table_1_of_one_game(folder):
  pytest.importorskip('ale_py')
  out = succeeded(
    run_script(
      'paper.py table1 --workdir=table --games=breakout --scale=1e-6 '
      '--methods=a3c_1_day --threads=1 -- --max_eval_episode_frames=400',
      cwd=folder,
    )
  )
  assert 'a3c_1_day: mean ' in out
  row, gorila = read_rows(folder / 'table/table1.csv')
  assert row['game'] == gorila['game'] == 'breakout'
  assert (gorila['method'], gorila['paper_score']) == ('Gorila', '313.0')
  assert float(row['human_normalized']) == pytest.approx(
    100 * (float(row['score']) - 1.7) / 28.8, abs=0.1
  )
  assert float(row['paper_score']) == 551.6


@pytest.mark.parametrize(
  ('name', 'arguments'),
  [
    (
      'pong',
      '--games=pong --methods=nstep_q,one_step_q --learning_rates=1.5e-3 '
      '--scale=0.125 -- --envs_per_thread=8',
    ),
    (
      'pong_one_step',
      '--games=pong --methods=one_step_q --learning_rates=2e-3 --scale=0.125 '
      '-- --envs_per_thread=2 --init_gain=1.6',
    ),
    (
      'pong_one_step_0.004',
      '--games=pong --methods=one_step_q --learning_rates=4e-3 --scale=0.125 '
      '-- --envs_per_thread=2 --init_gain=1.6',
    ),
    (
      'pong_sarsa',
      '--games=pong --methods=one_step_sarsa --learning_rates=3e-3 '
      '--scale=0.125 -- --envs_per_thread=2 --init_gain=1.6',
    ),
    (
      'pong_sarsa_0.0024',
      '--games=pong --methods=one_step_sarsa --learning_rates=2.4e-3 '
      '--scale=0.125 -- --envs_per_thread=2 --init_gain=1.6',
    ),
    (
      'breakout',
      '--games=breakout --methods=a3c --learning_rates=7e-4 --scale=0.105 -- '
      '--envs_per_thread=8 --rms_epsilon=1e-5 --init_gain=2.45 '
      '--max_grad_norm=20',
    ),
  ],
)
def test_recorded_results_draw_their_figure(name, arguments, tmp_path):
  pytest.importorskip('matplotlib')
  recorded = ROOT / 'experiments/results' / name
  shutil.copytree(recorded, tmp_path / name)
  (tmp_path / name / 'fig1.csv').unlink()
  out = succeeded(
    run_script(
      f'paper.py fig1 --threads=2 --workdir={name}',
      *arguments.split(),
      cwd=tmp_path,
    )
  )
  assert 'starts' not in out
  assert read_rows(tmp_path / name / 'fig1.csv') == read_rows(
    recorded / 'fig1.csv'
  )


def test_a_plan_that_is_stopped_resumes(tmp_path):
  pytest.importorskip('matplotlib')
  command = (
    'paper.py fig1 --games=catch --scale=0.1 --threads=1 --methods=a3c '
    '--learning_rates=3e-3 --workdir=results -- --checkpoint_frames=500'
  )
  process = start_script(command, cwd=tmp_path)
  runs = tmp_path / 'results/runs/catch-a3c-1threads-0.003-seed1'
  episodes = runs / 'episodes.csv'
  wait_until(lambda: episodes.exists() and len(episodes.read_text()) > 2000)
  process.send_signal(signal.SIGINT)
  out = succeeded(finish(process))
  assert 'stopping 1 runs' in out
  assert out.endswith(
    '1 of 1 runs are not finished\nto resume: the same command\n'
  )
  # What there is has been drawn.
  first = read_rows(tmp_path / 'results/fig1.csv')
  out = succeeded(run_script(command, cwd=tmp_path))
  assert out.endswith('results/fig1.csv and .png\n')
  log = (runs.parent / f'{runs.name}.log').read_text()
  assert re.search(r'resuming at frame \d', log)
  last = read_rows(tmp_path / 'results/fig1.csv')
  assert max(float(row['at']) for row in first if row['x'] == 'frames') < 19_000
  assert max(float(row['at']) for row in last if row['x'] == 'frames') > 19_000
