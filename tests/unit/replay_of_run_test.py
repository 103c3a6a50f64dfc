"""The replay memory that settings ask for, and those that are refused."""

from jobs import IDLE, worker_of
import pytest

from a3c_jax.acting import carry as carry_lib
from a3c_jax.core import errors
from a3c_jax.envs import catch, gym, replayable
from a3c_jax.runs import replay
from a3c_jax.settings import config

LEARNER = IDLE._replace(replay_gradients=lambda *_: None)
SMALL = {
  'algo': 'dqn',
  'frames': 1000,
  'threads': 2,
  'replay_capacity': 300,
  'replay_batch': 8,
  'replay_start_frames': 100,
}


def make(learner=LEARNER, **given):
  given = SMALL | given
  settings = config.make('catch', workdir='runs/test', **given)
  team = []
  for index in range(settings.num_workers):
    make_env = gym.make(catch.Catch, num_envs=settings.envs_per_thread)
    env = replayable.Recorded(make_env())
    carry = carry_lib.start(env, learner, seed=0, key=None)
    team.append(worker_of(env, carry, index=index))
  return replay.make(settings, learner, team)


def refused(**given):
  with pytest.raises(errors.UsageError) as error:
    make(**given)
  (line,) = str(error.value).splitlines()
  return line


def test_an_algorithm_without_replay_has_no_memory():
  given = dict.fromkeys(name for name in SMALL if 'replay' in name)
  assert make(algo='a3c', **given) is None
  assert make(algo='nstep_q', replay='none') is None


def test_a_memory_is_as_settings_say():
  made = make(replay_minibatches=3)
  assert (made.batch_size, made.minibatches, made.start) == (8, 3, 100)
  # Of 150 transitions of each thread, the newest has no next observation.
  assert made.memory.most == 2 * (150 - 1)
  own = make(replay='per_thread')
  assert own.start == 50
  assert own.memory.most == 300 - 1
  # Half of a transition is a whole one.
  assert make(replay='per_thread', replay_start_frames=101).start == 51
  assert make(t_max=3).memory.most == 2 * (150 - 3)
  assert make(algo='one_step_q', t_max=3, replay='shared').memory.most == 298
  assert make().memory.persistent
  assert not make(replay_checkpoint='empty').memory.persistent


def test_beta_rises_to_1_at_the_end_of_the_run():
  given = {'prioritized': True, 'priority_beta': 0.4}
  beta = make(**given).beta
  assert [beta(frames) for frames in (0, 500, 1000, 1200)] == pytest.approx(
    [0.4, 0.7, 1.0, 1.0]
  )
  assert make(**given | {'priority_beta': 1.0}).beta(0) == 1


def test_a_memory_larger_than_the_machine_has_left_is_refused(monkeypatch):
  needed = make().memory.num_bytes
  monkeypatch.setattr(replay.memory, 'available_bytes', lambda: needed)
  make()
  monkeypatch.setattr(replay.memory, 'available_bytes', lambda: needed / 2)
  line = refused()
  assert line.startswith('--replay_capacity=300: ')
  allowed = [int(line.rpartition(' ')[2])]
  # Of each thread.
  allowed.append(int(refused(replay='per_thread').rpartition(' ')[2]))
  assert 145 <= allowed[0] <= 150 and 72 <= allowed[1] <= 75
  make(replay_capacity=140)
  # Before the system is asked for it: it may refuse with another error.
  assert '--replay_capacity=' in refused(replay_capacity=10**9)


@pytest.mark.parametrize(
  ('given', 'least'),
  [
    ({}, 8),  # Two segments of 4 steps.
    ({'envs_per_thread': 3}, 24),
    ({'replay': 'per_thread', 'envs_per_thread': 3}, 12),
    ({'t_max': 9}, 20),  # Windows of 9 steps and the next observation.
    ({'algo': 'one_step_q', 'replay': 'shared', 't_max': 9}, 18),
  ],
)
def test_a_memory_without_room_for_a_segment_is_refused(given, least):
  tiny = {'replay_batch': 1, 'replay_start_frames': 1} | given
  line = refused(replay_capacity=least - 1, **tiny)
  assert line.startswith(f'--replay_capacity={least - 1}: ')
  assert line.endswith(f'allowed: at least {least}')
  make(replay_capacity=least, **tiny)


def test_a_memory_that_never_holds_its_start_is_refused():
  make(replay_start_frames=298)
  line = refused(replay_start_frames=299)
  assert line.startswith('--replay_capacity=300: ')
  assert '--replay_start_frames=299' in line


def test_a_learner_of_ones_own_must_be_able_to_replay():
  assert refused(learner=IDLE).startswith('--algo=dqn: ')
