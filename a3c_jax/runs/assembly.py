"""Makes and compiles all parts of a run, before its workers start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import logging
import threading
import time
from typing import Any, NamedTuple
import weakref

import gymnasium
import jax
import numpy as np

from a3c_jax import networks
from a3c_jax.acting import normalization, rollout
from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.core import errors, events, threads, types
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import replayable
from a3c_jax.optim import clipping, rule, staleness
from a3c_jax.parameters import store as store_lib
from a3c_jax.runs import evaluation, restoring, supervise
from a3c_jax.runs import evaluator as evaluator_lib
from a3c_jax.runs import replay as replay_lib
from a3c_jax.runtimes import registry as runtimes
from a3c_jax.runtimes import replaying, runtime
from a3c_jax.runtimes.staleness import Meter
from a3c_jax.settings import build
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
MakeEnv = Callable[[], gymnasium.vector.VectorEnv]


class Makers(NamedTuple):
  """Functions that make the parts of a run."""

  env: Callable[[], replayable.Recorded]
  eval_env: Callable[[], replayable.Recorded]
  learner: Callable[[gymnasium.vector.VectorEnv], types.Learner]

  @classmethod
  def of(cls, config, make_env, make_learner, make_eval_env) -> Makers:
    making = threading.Lock()
    made: list[weakref.ref] = []  # Of workers and of evaluations.

    def recorded_by(make):
      def make_recorded():
        # Environments are made one after another.
        with making, replayable.without_exit():
          env = make()
          if any(known() is env for known in made):
            raise errors.UsageError(
              'make_env: returned an environment that is in use already; '
              'allowed: a new one at each call'
            )
          recorded = replayable.Recorded(env)
          made.append(weakref.ref(env))
          return recorded

      return make_recorded

    with replayable.without_exit():
      if make_eval_env is None:
        make_eval_env = make_env
        if make_env is None and config.eval_frames:
          make_eval_env = build.make_env(
            config, domain_lib.EnvRequest(protocol=config.eval_protocol)
          )
      make_env = make_env or build.make_env(config)

    def of_config(env):
      layout = build.describe_layout(config, env.single_observation_space)
      if layout:
        _logger.info('%s', layout)
      return build.make_learner(config, env)

    return cls(
      recorded_by(make_env),
      recorded_by(make_eval_env or make_env),
      make_learner or of_config,
    )


class Parts(NamedTuple):
  """All parts of a run, made and compiled."""

  config: Config
  team: list[runtime.Worker]
  job: runtime.Job
  arrangement: runtime.Arrangement
  evaluator: evaluator_lib.Evaluator | None
  stat_names: list[str]  # names of the scalars of an update of a segment
  replay_names: list[str]  # and of a minibatch

  @classmethod
  def assemble(
    cls,
    config: Config,
    makers: Makers,
    site: runtime.Site,
    stage: Callable[..., None],
    on_made: Callable[[Callable[[], None]], None],
    on_threads: Callable[[Callable[[], Mapping[str, int]]], None],
  ) -> Parts:
    """Makes and compiles everything.

    Environments are made one after another in this thread. Their first resets
    are in other threads, while this one makes the next ones and compiles.

    Args:
      config: of the run.
      makers: of its parts.
      site: where the workers and the parameters are.
      stage: called at the start of each stage, as `setting_up.watched` says.
      on_made: called with the function that closes an environment, as soon as
        the environment is made.
      on_threads: called before a thread that uses an environment starts, with
        a function that returns its name and signs of life while it runs.
    """
    incidents = events.EventQueue()
    # Of workers elsewhere, one shows the spaces and shapes of all.
    indexes = [0] if site.elsewhere else range(config.num_workers)
    with _Starts(stage, on_threads) as starts:
      team, learner = _team(config, makers, indexes, starts, stage, on_made)
      evaluator = None
      if config.eval_frames:
        stage('making the environment of evaluations')
        evaluator = evaluator_lib.Evaluator(
          makers.eval_env,
          learner,
          episodes=config.eval_episodes,
          seed=config.seed,
          max_steps=evaluation.most_steps(
            config.max_eval_episode_frames, config.action_repeat
          ),
          max_env_restarts=config.max_env_restarts,
          incidents=incidents,
        )
        on_made(evaluator.close)
      # It shows how the states of the others will look.
      starts.wait(team[0])
      stage('compiling', computes=True)
      job = _job(
        config,
        learner,
        team,
        worker_states=[team[0].state] * len(team),
        makers=makers,
        site=site,
        incidents=incidents,
      )
      arrangement = site.arrange(team, job)
      with _warmed_up(evaluator, job, on_threads):
        segment = arrangement.warm_up()
      if not site.elsewhere:
        starts.wait_for(team)
        _set_worker_states(job.store, team)
    return cls(
      config,
      team,
      job,
      arrangement,
      evaluator=evaluator,
      stat_names=_stat_names(job, segment),
      replay_names=_replay_names(job),
    )


class _Starts(contextlib.AbstractContextManager):
  """Starts workers, each in a thread of its own.

  An emulator resets without the GIL, and takes as long as to be made. At the
  end of the block, no thread uses an environment, unless it hangs.
  """

  def __init__(
    self,
    stage: Callable[..., None],
    on_threads: Callable[[Callable[[], Mapping[str, int]]], None],
  ):
    """Starts nothing yet; arguments are those of `Parts.assemble`."""
    self._stage = stage
    self._on_threads = on_threads
    self._groups: dict[int, threads.ThreadGroup] = {}

  def begin(
    self,
    worker: runtime.Worker,
    learner: types.Learner,
    *,
    seed: int,
    key: jax.Array,
  ) -> None:
    """Begins what `Worker.start` does."""
    group = threads.ThreadGroup(
      {
        f'reset-{worker.index}': lambda stop: worker.start(
          learner, seed=seed, key=key
        )
      }
    )
    self._groups[worker.index] = group
    self._on_threads(group.alive)
    group.start()

  def wait(self, worker: runtime.Worker) -> None:
    """Waits until a worker has started.

    Raises:
      Exception: what its environment raised.
    """
    self._stage(f'resetting the environment of thread {worker.index}')
    self._groups[worker.index].join()

  def wait_for(self, team: Sequence[runtime.Worker]) -> None:
    """Waits until all of these workers have started.

    Raises:
      Exception: what the first of their environments raised.
    """
    for worker in team:
      self.wait(worker)

  def __exit__(self, *_):
    deadline = time.perf_counter() + supervise.STOP_SECONDS
    for group in self._groups.values():
      group.stop(max(0.0, deadline - time.perf_counter()))


def _team(
  config: Config,
  makers: Makers,
  indexes: Sequence[int],
  starts: _Starts,
  stage: Callable[..., None],
  on_made: Callable[[Callable[[], None]], None],
) -> tuple[list[runtime.Worker], types.Learner]:
  """Makes workers of some indexes, and begins to start their environments."""
  team, learner = [], None
  _, worker_key = jax.random.split(jax.random.PRNGKey(config.seed))
  for index in indexes:
    stage(f'making the environment of thread {index}')
    env = makers.env()
    rng = np.random.default_rng([config.seed, index])
    seed = int(rng.integers(2**31 - env.num_envs)) % replayable.TRAINING_SEEDS
    worker = runtime.Worker(
      index, env, config.algorithm.exploration(rng, env.num_envs)
    )
    team.append(worker)
    on_made(lambda worker=worker: worker.env.close())
    if learner is None:
      stage('making the learner', computes=True)
      learner = makers.learner(env)
      _logger.info('setting up %d threads', config.num_workers)
    key = jax.random.fold_in(worker_key, index)
    starts.begin(worker, learner, seed=seed, key=key)
  assert learner is not None
  return team, learner


def _set_worker_states(
  store: store_lib.ParameterStore, team: Sequence[runtime.Worker]
) -> None:
  """Tells a store where its workers start."""
  state, _ = store.capture()
  store.restore(
    state._replace(worker_states=[worker.state for worker in team], memory=None)
  )


def _warmed_up(
  evaluator: evaluator_lib.Evaluator | None,
  job: runtime.Job,
  on_threads: Callable[[Callable[[], Mapping[str, int]]], None],
) -> contextlib.AbstractContextManager:
  """Compiles what evaluations call, in a thread, while a block runs."""
  if evaluator is None:
    return contextlib.nullcontext()
  version = job.store.read()
  return threads.beside(
    'compile-evaluation',
    lambda: evaluator.warm_up(version),
    on_thread=on_threads,
  )


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How a process makes its parts of a run: a `runtime.Recipe`.

  Attributes:
    config: of the run.
    make_env: as for `training.run`.
    make_learner: as for `training.run`.
    make_store: makes the store of the run.
  """

  config: Config
  make_env: MakeEnv | None
  make_learner: Callable[..., types.Learner] | None
  make_store: store_lib.MakeStore

  @property
  def num_workers(self) -> int:
    return self.config.num_workers

  @property
  def watchdog_seconds(self) -> float:
    return self.config.watchdog_seconds

  def update_rule(self) -> rule.UpdateRule:
    """Makes the optimizer of the run."""
    return _update_rule(self.config)

  def makers(self, make_eval_env: MakeEnv | None = None) -> Makers:
    """Returns the functions that make the parts of this process."""
    return Makers.of(
      self.config, self.make_env, self.make_learner, make_eval_env
    )

  def members(
    self, indexes: Sequence[int], site: runtime.Site
  ) -> runtime.Members:
    """Makes workers of some indexes, and starts their environments."""
    config, makers = self.config, self.makers()
    stage = lambda *_, **__: None
    with _Starts(stage, lambda alive: None) as starts:
      team, learner = _team(
        config, makers, indexes, starts, stage, lambda close: None
      )
      starts.wait_for(team)
    return runtime.Members(
      team,
      _job(
        config,
        learner,
        team,
        worker_states=[worker.state for worker in team],
        makers=makers,
        site=site,
        incidents=events.EventQueue(),
      ),
    )

  def replay(
    self, members: runtime.Members, saved: Sequence[WorkerState]
  ) -> None:
    """Brings workers to saved states by the actions of their logs."""
    restoring.replay(
      members.team,
      saved,
      learner=members.job.learner,
      make_env=members.job.make_env,
      incidents=members.job.incidents,
      watchdog_seconds=self.config.watchdog_seconds,
      on_threads=lambda alive: None,
    )


def _target_period(config, learner) -> types.TargetPeriod | None:
  if not learner.uses_target:
    return None
  period = config.algorithm.target_period
  if period is None:
    raise errors.UsageError(
      f'--algo={config.algo}: has no --target_period_frames, but the learner '
      'has target parameters; allowed: an algorithm that has that setting, or '
      'another target_period'
    )
  return period


def _job(
  config: Config,
  learner: types.Learner,
  team: list[runtime.Worker],
  *,
  worker_states: Sequence[WorkerState],
  makers: Makers,
  site: runtime.Site,
  incidents: events.EventQueue,
) -> runtime.Job:
  init_key, _ = jax.random.split(jax.random.PRNGKey(config.seed))
  obs = team[0].state.carry.obs
  replay = replay_lib.make(config, learner, team, site.place_memory)
  given: dict[str, Any] = {'memory': replay.memory} if replay else {}
  correction = config.arrangement.correction
  if correction != staleness.UNCORRECTED:
    given['correction'] = correction
  store = site.make_store(
    _scaled(learner.init(init_key, obs), config.init_gain),
    _update_rule(config),
    worker_states=worker_states,
    target_period=_target_period(config, learner),
    statistics=(
      normalization.initial(obs.shape[1:]) if config.normalize_obs else None
    ),
    lag_bound=config.arrangement.lag_bound,
    **given,
  )
  gradients = clipping.of_learner(
    learner, config.max_grad_norm or None, factored_rows=store.factored_rows
  )
  every = config.arrangement.measured_gradients
  return runtime.Job(
    learner=learner,
    gradients=gradients,
    store=store,
    max_grad_norm=config.max_grad_norm or None,
    seed=config.seed,
    spec=rollout.RolloutSpec(
      steps=config.algorithm.segment_steps(config.t_max),
      gamma=config.gamma,
      reward_scale=config.reward_scale,
      reward_clip=config.reward_clip or None,
    ),
    frames=config.frames,
    action_repeat=config.action_repeat,
    make_env=makers.env,
    incidents=incidents,
    max_env_restarts=config.max_env_restarts,
    max_bad_gradients=config.max_bad_gradients,
    replay=replay,
    lag_bound=config.arrangement.lag_bound,
    traced=config.arrangement.recorded,
    inject_lag=config.arrangement.held_gradients,
    needs_read_params=correction.compensation > 0,
    meter=Meter(learner, gradients, every) if every else None,
  )


# Compiled at once.
_scaled = jax.jit(networks.scale_torso_kernels, static_argnames='gain')


def _update_rule(config: Config) -> rule.UpdateRule:
  """Returns the optimizer, with one state if workers update together."""
  made = build.make_update_rule(config)
  alone = runtimes.get(config.runtime).updates_alone
  return made._replace(per_worker=made.per_worker and alone)


def _stat_names(job: runtime.Job, segment: types.Segment) -> list[str]:
  """Returns the names of the scalars of an update; computes no gradient."""
  if not job.learner.learns_from_segments:
    return []
  version = job.store.read()
  return clipping.stat_names(
    job.learner,
    version.params,
    version.target_params,
    segment,
    factored_rows=job.store.factored_rows,
  )


def _replay_names(job: runtime.Job) -> list[str]:
  if job.replay is None:
    return []
  version = job.store.read()
  return replaying.names(
    job.replay.gradients,
    version.params,
    version.target_params,
    replaying.example(job),
  )
