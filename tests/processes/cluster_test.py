"""Runs whose nodes are processes, and what they survive."""

from concurrent import futures
import os
import signal
import threading
import traceback

import catch_runs
import clusters
import goals
import jax
import jax.numpy as jnp
import marks
import processes
import programs
import pytest
import replay_runs
from results import digest, read_rows, same_episodes

from a3c_jax import Logger
from a3c_jax.core import errors, packages
from a3c_jax.envs import catch, gym
from a3c_jax.runtimes.cluster import actors, engine
from a3c_jax.settings import build

pytestmark = marks.needs_ray


@pytest.fixture(scope='session')
def cluster():
  """One for all tests of this process: to start it takes seconds."""
  found = clusters.Cluster()
  yield found
  found.close()


@pytest.fixture(autouse=True)
def nothing_remains(request):
  """Checks that a run leaves no process behind."""
  yield
  for kind in ('Node', 'Server'):
    processes.wait_until(lambda kind=kind: not clusters.pids(kind))


@pytest.fixture
def run(cluster, tmp_path):
  """Runs in the cluster, by default with two nodes of one thread each."""

  def run(workdir=tmp_path / 'run', *makers, **given):
    return catch_runs.run(
      workdir,
      *makers,
      **{
        'runtime': 'cluster',
        'address': cluster.address,
        'nodes': 2,
        'envs_per_thread': 1,
      }
      | given,
    )

  return run


class When(Logger):
  """Acts once, when so many frames are done."""

  def __init__(self, frames, act):
    self._frames, self._act = frames, act
    self._done = False

  def on_progress(self, progress):
    if not self._done and progress.frames >= self._frames:
      self._done = True
      self._act()


def check_counts(workdir, result, *, workers=2):
  """Checks that each segment and each update is counted once."""
  saved = replay_runs.newest(workdir)
  # Too young to be reset with another seed: they hold all actions.
  logs = [each['action_log'] for each in saved.arrays['workers'].values()]
  assert len(logs) == workers
  played = sum(len(each['actions']) for each in logs)
  assert played == result.frames == saved.record['frames']
  assert result.frames == 5 * result.updates
  episodes = read_rows(workdir / 'episodes.csv')
  ended = sum(int(row['episode_frames']) for row in episodes)
  assert 0 <= result.frames - ended < 10 * workers


@pytest.mark.parametrize(
  'given',
  [
    {'algo': 'one_step_q', 'target_period_frames': 70},
    {'algo': 'gorila', **replay_runs.SMALL},
  ],
  ids=lambda given: given['algo'],
)
def test_one_node_ends_in_the_same_bits_as_one_thread(run, tmp_path, given):
  given = {'frames': 600} | given
  found = run(nodes=1, **given)
  expected = catch_runs.run(tmp_path / 'expected', **given)
  assert digest(found.params) == digest(expected.params)
  assert (found.frames, found.updates) == (expected.frames, expected.updates)
  same_episodes(tmp_path / 'run', tmp_path / 'expected')


@pytest.mark.long
def test_three_parts_of_the_parameters_end_in_the_same_bits(run, tmp_path):
  given = {'algo': 'nstep_q', 'frames': 600, 'checkpoint_frames': 200}
  found = run(nodes=1, shards=3, **given)
  expected = catch_runs.run(tmp_path / 'expected', **given)
  assert digest(found.params) == digest(expected.params)
  row = read_rows(tmp_path / 'run' / 'train.csv')[-1]
  assert [row[f'shard{i}_updates'] for i in range(3)] == [row['updates']] * 3


def test_a_run_that_is_stopped_resumes_in_the_bits_of_one_thread(
  run, tmp_path, caplog
):
  given = {
    'algo': 'dqn',
    'frames': 600,
    'target_period_frames': 70,
    **replay_runs.SMALL,
  }
  stop = When(200, lambda: signal.raise_signal(signal.SIGTERM))
  first = run(nodes=1, loggers=[stop], **given)
  assert 200 <= first.frames < 600
  assert not first.finished
  last = run(nodes=1, **given)
  assert last.finished
  expected = catch_runs.run(tmp_path / 'expected', **given)
  assert digest(last.params) == digest(expected.params)
  assert (last.frames, last.updates) == (expected.frames, expected.updates)
  folders = [tmp_path / name for name in ('run', 'expected')]
  same_episodes(*folders)
  replay_runs.same_memory(*folders)
  assert 'starts empty' not in caplog.text


@pytest.mark.long
@pytest.mark.parametrize(
  ('kind', 'warning'),
  [
    ('Node', 'node 0 has ended; it starts again, 1 of at most 2 times'),
    (
      'Server',
      'the parameter server has ended or cannot be reached; the run resumes '
      'from its newest checkpoint, 1 of at most 2 times',
    ),
  ],
  ids=['node', 'server'],
)
def test_a_process_that_is_killed_changes_no_bit(
  run, tmp_path, caplog, kind, warning
):
  given = {'frames': 1500, 'checkpoint_frames': 100}
  result = run(
    nodes=1,
    max_restarts=2,
    loggers=[When(400, lambda: clusters.kill_one(kind))],
    **given,
  )
  assert result.finished
  assert warning in caplog.messages
  check_counts(tmp_path / 'run', result, workers=1)
  expected = catch_runs.run(tmp_path / 'expected', **given)
  assert digest(result.params) == digest(expected.params)
  same_episodes(tmp_path / 'run', tmp_path / 'expected')
  restarts = read_rows(tmp_path / 'run/train.csv')[-1]['node_restarts']
  assert int(restarts) == (kind == 'Node')


def waiting_at_step(number, path):
  """Catch that waits at one of its steps until there is a file.

  So a run of several such environments cannot end before a test has acted.
  """

  class Waits(catch.Catch):  # Sent by value: a node cannot import this module.
    def __init__(self):
      super().__init__()
      self._left = number

    def step(self, action):
      self._left -= 1
      if not self._left:
        processes.wait_until(path.exists)
      return super().step(action)

  return gym.make(Waits)


@pytest.mark.long
def test_a_machine_that_is_lost_is_replaced_by_another(
  run, cluster, tmp_path, caplog
):
  go_on = tmp_path / 'go-on'

  def lose():
    cluster.add()
    cluster.remove_one_at_work()
    go_on.touch()

  result = run(
    tmp_path / 'run',
    waiting_at_step(300, go_on),
    frames=3000,
    loggers=[When(300, lose)],
  )
  assert result.finished
  (warning,) = [x for x in caplog.messages if 'starts again' in x]
  assert warning.endswith('has ended; it starts again, 1 of at most 10 times')
  check_counts(tmp_path / 'run', result)


@pytest.mark.long
def test_a_node_that_finds_no_machine_waits_for_one(
  run, cluster, tmp_path, caplog, monkeypatch
):
  monkeypatch.setattr(actors, 'LATE_SECONDS', 0.1)
  go_on = tmp_path / 'go-on'

  def add_machine():
    cluster.add()
    go_on.touch()

  class WhenItWaits(Logger):
    def on_progress(self, progress):
      lose.on_progress(progress)
      if 'waits for a machine with 1 free CPUs' in caplog.text:
        add.on_progress(progress)

  lose = When(300, cluster.remove_one_at_work)
  add = When(0, add_machine)
  result = run(
    tmp_path / 'run',
    waiting_at_step(300, go_on),
    frames=3000,
    loggers=[WhenItWaits()],
  )
  assert result.finished
  check_counts(tmp_path / 'run', result)


def test_a_node_that_ends_once_too_often_ends_the_run(run, tmp_path):
  with pytest.raises(errors.RunError) as caught:
    run(
      frames=10**6,
      max_restarts=0,
      loggers=[When(300, lambda: clusters.kill_one('Node'))],
    )
  line = str(caught.value)
  assert line.endswith('has ended 1 times; allowed: --max_restarts=0')
  assert catch_runs.saved(tmp_path / 'run/checkpoints')[-1] >= 300


def test_a_node_that_ends_before_training_ends_the_run(run, tmp_path):
  here = os.getpid()

  def make_env():
    if os.getpid() != here:
      os._exit(3)
    return gym.make(catch_runs.Breaks)()

  with pytest.raises(errors.RunError) as caught:
    run(tmp_path / 'run', make_env, nodes=1)
  line = str(caught.value)
  assert line.startswith('a node has ended before training began: ')
  assert '\n' not in line


def test_what_an_environment_raises_ends_the_run(run, tmp_path):
  with pytest.raises(catch_runs.Failure, match='the game broke') as caught:
    run(
      tmp_path / 'run',
      gym.make(lambda: catch_runs.Breaks(200)),
      frames=10**6,
      max_env_restarts=1,
    )
  text = ''.join(traceback.format_exception(caught.value))
  # Where it was raised, in the other process.
  assert "raise Failure('the game broke')" in text
  assert 'raised in thread actor-learner-0' in text
  assert 'raised in thread node-' in text
  assert catch_runs.saved(tmp_path / 'run/checkpoints')[-1] > 0


def test_gradients_that_are_not_finite_end_the_run(run, tmp_path):
  def make_learner(settings, env):
    learner = build.make_learner(settings, env)

    def gradients(*arguments):
      grads, stats = learner.gradients(*arguments)
      return jax.tree.map(lambda grad: grad * jnp.nan, grads), stats

    return learner._replace(gradients=gradients)

  with pytest.raises(errors.BadGradientError, match='3 gradients in a row'):
    run(tmp_path / 'run', None, make_learner, frames=10**6, max_bad_gradients=2)
  assert catch_runs.saved(tmp_path / 'run/checkpoints')


def refused(run, *makers, **given):
  with pytest.raises(errors.UsageError) as caught:
    run(*makers, **given)
  line = str(caught.value)
  assert '\n' not in line
  return line


def test_a_module_that_a_node_does_not_have_is_named(
  run, tmp_path, monkeypatch
):
  monkeypatch.setattr(packages, '_loaded', ['no_such_module_there'])
  line = refused(run)
  assert 'no_such_module_there' in line
  assert '; found by the parameter server on ' in line


def test_more_threads_than_a_machine_has_are_refused(run):
  line = refused(run, nodes=1, threads=2)
  assert 'room for 0 of 1 processes with 2 CPUs each' in line
  assert 'so many: 1, 1;' in line
  assert 'room for 2 of 3 processes' in refused(run, nodes=3)


def test_another_version_of_ray_is_refused(run, cluster, monkeypatch):
  import ray

  monkeypatch.setattr(ray, '__version__', '2.0.0')
  line = refused(run)
  assert line.startswith(f'--address={cluster.address}: ')
  assert '2.0.0' in line


def test_a_program_that_uses_ray_already_is_refused(run, cluster):
  import ray

  ray.init(address=cluster.address, log_to_driver=False)
  try:
    assert 'uses Ray already' in refused(run)
  finally:
    ray.shutdown()


def test_this_program_keeps_its_handler_of_sigterm(cluster, capfd):
  received = []
  before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
  try:
    with engine.connected(cluster.address, parts=1, cpus=1):
      signal.raise_signal(signal.SIGTERM)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert received
  assert 'SIGTERM' not in capfd.readouterr().err


@pytest.fixture
def slow(cluster):
  """A process that waits, or raises, when it is asked."""

  class Slow:  # Of a function: the other process cannot import this module.
    def __init__(self):
      self._ends = threading.Event()

    def raises(self):
      raise TimeoutError('too slow')

    def waits(self):
      return self._ends.wait(60)

    def end(self):
      self._ends.set()

  with engine.connected(cluster.address, parts=1, cpus=1):
    yield actors.Actor(Slow, cpus=0, threads=2)


def test_a_call_that_raises_a_timeout_has_an_answer(slow):
  polls = iter(range(1000))
  with pytest.raises(TimeoutError, match='too slow'):
    slow.tell('raises', while_waiting=polls.__next__)
  with pytest.raises(TimeoutError, match='too slow'):
    slow.ask('raises')


def test_a_question_without_an_answer_is_reported_once(
  slow, monkeypatch, caplog
):
  monkeypatch.setattr(actors, 'LATE_SECONDS', 0.0)
  monkeypatch.setattr(actors, '_POLL_SECONDS', 0.05)
  asking = futures.ThreadPoolExecutor(1).submit(slow.ask, 'waits')
  processes.wait_until(lambda: caplog.messages)
  slow.tell('end')
  assert asking.result()
  assert caplog.messages == ['the slow has not answered for 0 s']


def test_a_process_without_an_answer_counts_as_ended_at_last(slow, monkeypatch):
  monkeypatch.setattr(actors, 'HUNG_SECONDS', 0.0)
  monkeypatch.setattr(actors, '_POLL_SECONDS', 0.05)
  with pytest.raises(actors.EndedError, match='no answer to waits'):
    slow.ask('waits')
  slow.tell('end')


def test_what_cannot_be_sent_is_refused(run, tmp_path):
  lock = threading.Lock()

  def make_env():
    with lock:
      return gym.make(catch_runs.Breaks)()

  line = refused(run, tmp_path / 'run', make_env)
  assert line.startswith('--runtime=cluster: cannot be sent')
  assert 'lock' in line


@pytest.mark.long
def test_two_nodes_learn_catch(run):
  goal = goals.Goal(0.9)
  run(
    algo='a3c',
    frames=400_000,
    anneal_frames=1_000_000,
    envs_per_thread=8,
    loggers=[goal],
  )
  assert goal.reached


@pytest.fixture
def start(tmp_path):
  """Starts a run of a script whose home and temporary files are in a folder."""
  (tmp_path / 'temporary').mkdir()
  started = []

  def start():
    started.append(
      programs.start_script(
        'catch.py --runtime=cluster --nodes=2 --threads=1 --frames=4000 '
        '--envs_per_thread=1 --eval_frames=0 --checkpoint_frames=300 '
        '--workdir=results',
        cwd=tmp_path,
        env={'HOME': str(tmp_path), 'TMPDIR': str(tmp_path / 'temporary')},
        start_new_session=True,  # As in a terminal, it has a group.
      )
    )
    return started[-1]

  yield start
  for each in started:
    each.kill()
    each.communicate()


RAYS_AGENTS = ('ray::DashboardAgent', 'ray::RuntimeEnvAgent')


def newest_checkpoint(folder):
  paths = (folder / 'results/checkpoints').glob('*')
  return max([int(x.name) for x in paths if x.name.isdigit()], default=0)


@pytest.mark.long
def test_a_script_that_is_killed_or_stopped_leaves_nothing(tmp_path, start):
  first = start()
  processes.wait_until(lambda: newest_checkpoint(tmp_path) >= 300)
  numbers = processes.below(first.pid)
  assert len(numbers) > 4
  first.kill()
  first.wait()
  before = newest_checkpoint(tmp_path)
  second = start()
  processes.wait_until(lambda: newest_checkpoint(tmp_path) >= before + 300)
  numbers |= processes.below(second.pid)
  os.killpg(second.pid, signal.SIGINT)  # As a terminal does.
  code, out, err = programs.finish(second)
  assert code == 0, err
  assert '--workdir=results' in out
  assert newest_checkpoint(tmp_path) < 4000
  assert [*(tmp_path / 'temporary').iterdir()] == []
  assert {x.name for x in tmp_path.iterdir()} == {'results', 'temporary'}
  # Those of the first Ray find out that nobody needs them any more. It is Ray's
  # own business that its agents try for a minute to report that.
  processes.wait_until(
    lambda: all(
      any(agent in processes.command_of(x) for agent in RAYS_AGENTS)
      for x in filter(processes.parent_of, numbers)
    )
  )
