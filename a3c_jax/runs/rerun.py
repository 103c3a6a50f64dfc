"""Repeats a recorded asynchronous run in one thread, bit for bit."""

from __future__ import annotations

import array
import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import logging
import os
import pathlib
import threading
import time
from typing import NamedTuple

from a3c_jax.core import errors, fields, files, paths, threads, types
from a3c_jax.envs import replayable
from a3c_jax.parameters.store import Contribution, Receipt
from a3c_jax.replay.memory import Memory, Minibatch
from a3c_jax.runs import assembly, image_moments, loading, trace_file
from a3c_jax.runtimes import asynchronous, runtime
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
_LOG_SECONDS = 5.0
_Made = tuple[Contribution, types.Segment | Minibatch]


@dataclasses.dataclass(frozen=True)
class Options:
  """What to repeat; a flag of the script for each."""

  workdir: str = fields.path(
    'Folder of the run, which trained with --record.',
    default='',
    source='has to be given',
  )
  until: int = fields.count(
    'Update to end after; 0 for the end of the run.',
    least=0,
    default=0,
    source='ours',
  )
  check: bool = fields.true_or_false(
    'Compare all with what was recorded, and end at the first difference.',
    default=True,
    source='ours',
  )
  trust_workdir: bool = fields.true_or_false(
    'Import and call code that config.json names. Only for a workdir whose '
    'origin you trust.',
    default=False,
    source='ours',
  )


class Step(NamedTuple):
  """One contribution of a run, repeated.

  Attributes:
    number: of the contribution, from 1.
    worker: whose it is.
    learnt: the segment, or the minibatch of a replay memory.
    read: the versions that the worker read for it, in their order. The gradient
      is of the one with `contribution.read_version` updates, unless
      `--inject_lag` holds gradients back: then it is of an earlier step.
    contribution: its `grads` are the gradient, clipped; None if it was not
      finite. One that was too late changes nothing: `after.updates` is
      `before.updates`.
    before: the shared version before it.
    after: the shared version after it.
    receipt: with the lag.
  """

  number: int
  worker: int
  learnt: types.Segment | Minibatch
  read: tuple[types.Version, ...]
  contribution: Contribution
  before: types.Version
  after: types.Version
  receipt: Receipt


class DifferenceError(errors.RunError):
  """A run does not repeat: at this contribution it is different."""


def rerun(
  workdir: str | os.PathLike[str],
  *,
  until: int | None = None,
  check: bool = True,
  make_env: assembly.MakeEnv | None = None,
  make_learner: loading.MakeLearner | None = None,
  trust: bool = False,
) -> Iterator[Step]:
  """Repeats a run that was recorded with `--record`, and changes no file.

  What threads did at the same time happens in this thread, one after another,
  in the order of the updates. Everything has the same bits as in the run.

  Args:
    workdir: of the run.
    until: the update to end after; None repeats the whole run.
    check: whether to compare each contribution, and the parameters at each
      digest, with the recorded ones.
    make_env: as for `training.run`, if the run had one.
    make_learner: likewise.
    trust: import and call the code that config.json names, as for `load`.

  Returns:
    The contributions, in order. Closing the iterator closes environments.

  Raises:
    UsageError: if there is no such run, it was not recorded, it was recorded
      with other versions or on another processor, or `trust` is needed.
    DifferenceError: at the first contribution that is not as recorded.
    RunError: where the record is damaged, or where the run has resumed with
      other settings or on another machine.
    Exception: what the environment or the learner raises.
  """
  path = pathlib.Path(paths.absolute(os.fspath(workdir)))
  config = record_lib.read(path).config
  if files.is_locked(path / 'config.json'):
    raise errors.UsageError(
      f'--workdir={paths.as_given(path)}: another process is using it; '
      'allowed: a run that does not train now'
    )
  recorded = _read(path)
  # Those of its first contribution: later ones may be in config.json.
  config = record_lib.with_settings(config, recorded.sessions[0][-1].settings)
  _check_platform(path, config, recorded)
  if not trust:
    loading.refuse_code(
      path,
      config_lib.code_named(
        config, environment=make_env is None, network=make_learner is None
      ),
    )
  if until is not None and not 1 <= until <= max(1, len(recorded)):
    raise errors.UsageError(
      f'--until={until}: allowed: an update, from 1 to at most {len(recorded)}'
    )
  return _steps(config, recorded, until, check, make_env, make_learner)


def run(options: Options) -> None:
  """Repeats a run, and logs how far it is and where it ends.

  Raises:
    UsageError, DifferenceError, RunError, Exception: as `rerun`.
  """
  steps = rerun(
    options.workdir,
    until=options.until or None,
    check=options.check,
    trust=options.trust_workdir,
  )
  step, logged = None, time.perf_counter()
  try:
    for step in steps:
      if time.perf_counter() > logged + _LOG_SECONDS:
        logged = time.perf_counter()
        _logger.info('%s', _described(step))
  finally:  # Also what came before a difference.
    if step:
      _logger.info('%s', _described(step))
  if step is None:
    _logger.warning('the record has no contribution yet')
  else:
    digest = trace_file.digest(step.after.params).hex()
    _logger.info('SHA-256 of the parameters: %s', digest)


def _described(step: Step) -> str:
  receipt = step.receipt
  return (
    f'contribution {step.number:,} of thread {step.worker}: update '
    f'{receipt.version:,}, lag {receipt.lag}, {receipt.frames:,} frames'
  )


def _read(path: pathlib.Path) -> trace_file.Recorded:
  shown = f'--workdir={paths.as_given(path)}'
  try:
    recorded = trace_file.Recorded(path)
  except FileNotFoundError as error:
    raise errors.UsageError(
      f'{shown}: the run was not recorded; allowed: one that trained with '
      '--record'
    ) from error
  except (ValueError, OSError) as error:
    problem = getattr(error, 'strerror', None) or error
    raise errors.UsageError(
      f'{shown}: {trace_file.NAME}: {problem}; allowed: that of a run, '
      'unchanged'
    ) from error
  if 0 not in recorded.sessions:
    raise errors.UsageError(
      f'{shown}: {trace_file.NAME}: {recorded.damage or "it is empty"}; '
      'allowed: that of a run, unchanged'
    )
  return recorded


def _check_platform(
  path: pathlib.Path, config: Config, recorded: trace_file.Recorded
) -> None:
  """Raises UsageError if this process may compute other bits."""
  own = trace_file.platform_of(config)
  problem = _difference(recorded.sessions[0][-1].platform, own)
  if problem:
    raise errors.UsageError(
      f'--workdir={paths.as_given(path)}: was recorded with {problem}, with '
      'which bits may differ; allowed: a run of the same versions, processor '
      'and settings of JAX, which a3c_jax.core.cpu.set_up gives to scripts'
    )


def _difference(theirs, own) -> str:
  """Returns the first difference of two platforms in words; '' without."""
  for name in sorted({*theirs, *own}):
    was, now = theirs.get(name, 'none'), own.get(name, 'none')
    if was != now:
      return f'{name} {was}, here it is {now}'
  return ''


def _steps(
  config: Config,
  recorded: trace_file.Recorded,
  until: int | None,
  check: bool,
  make_env: assembly.MakeEnv | None,
  make_learner: loading.MakeLearner | None,
) -> Iterator[Step]:
  with contextlib.ExitStack() as stack:
    repeater = _Repeater(config, recorded, check, make_env, make_learner)
    stack.callback(repeater.close)
    for number in range(len(recorded)):
      step = repeater.step(number)
      yield step
      if until is not None and step.receipt.version >= until:
        return
    repeater.finish()
  if recorded.damage:
    raise errors.RunError(
      f'{trace_file.NAME}: {recorded.damage}; the run is repeated until '
      f'contribution {len(recorded)}, which is the last one before'
    )
  if until is not None:
    raise errors.RunError(
      f'--until={until}: the run has {repeater.updates} updates'
    )


class _Repeater:
  """The workers, the parameters, and the versions that are still read."""

  def __init__(
    self,
    config: Config,
    recorded: trace_file.Recorded,
    check: bool,
    make_env: assembly.MakeEnv | None,
    make_learner: loading.MakeLearner | None,
  ):
    self._recorded = recorded
    self._check = check
    # Only priorities depend on how long the run will be.
    prioritized = config.replay and config.replay.prioritized
    self._without_effect = () if prioritized else ('frames',)
    arrangement = config.arrangement
    assert isinstance(arrangement, asynchronous.Settings)
    # In the recorded order nobody need wait.
    arrangement = dataclasses.replace(
      arrangement, when_late='drop', measure_staleness=0
    )
    config = dataclasses.replace(
      config,
      eval_frames=0,
      max_env_restarts=0,
      max_bad_gradients=2**62,
      arrangement=arrangement,
    )
    recipe = assembly.Recipe(
      config, make_env, make_learner, arrangement.make_store
    )
    self._team, self._job = recipe.members(
      range(config.num_workers),
      runtime.Site(
        lambda team, job: asynchronous.Asynchronous(team, job, arrangement),
        recipe.make_store,
      ),
    )
    if config.normalize_images:
      image_moments.prepare(
        self._job.store,
        recipe.makers().env,
        config.seed,
        max_env_restarts=config.max_env_restarts,
      )
    self._gradients = asynchronous.replay_gradients_of(self._job)
    self._reads: collections.deque[types.Version] = collections.deque()
    self._kept = {0: self._job.store.read()}
    self._last_use, self._numbers = _uses(recorded, len(self._team))
    # Of minibatches that were drawn before their turn, by worker.
    self._drawn: dict[int, _Made] = {}
    self._memory_changes = [0] * len(self._team)  # before this session
    self._begin_session()

  def close(self) -> None:
    threads.call_all(
      [worker.env.close for worker in self._team], seconds=threads.CLOSE_SECONDS
    )

  @property
  def updates(self) -> int:
    return self._job.store.read().updates

  def _begin_session(self) -> None:
    self._actor_learners = [self._started(worker) for worker in self._team]

  def _started(self, worker: runtime.Worker) -> asynchronous.ActorLearner:
    return asynchronous.ActorLearner(
      worker,
      self._job,
      threading.Event(),
      self._reads.popleft,
      self._gradients,
    )

  def step(self, index: int) -> Step:
    """Repeats the contribution that so many others went before."""
    self._check_parameters(index)
    for session in self._resumptions(index):
      self._resume(session, index)
    self._draw_early(index)
    worker, trace = self._recorded[index]
    self._numbers[worker].popleft()
    read = tuple(self._kept[number] for number in trace.reads)
    before = self._job.store.read()
    contribution, learnt = self._drawn.pop(worker, None) or self._made(
      worker, trace, read
    )
    if self._check:
      self._compare(contribution, worker, trace, index)
    contribution = contribution._replace(trace=trace)
    receipt = self._job.store.push(contribution)
    self._job.store.drain()
    self._team[worker].state = contribution.played[0].worker_state
    after = self._job.store.read()
    if self._last_use[index + 1] >= 0:
      self._kept[index + 1] = after
    for number in {*trace.reads}:
      if self._last_use[number] == index:
        del self._kept[number]
    return Step(
      index + 1, worker, learnt, read, contribution, before, after, receipt
    )

  def finish(self) -> None:
    """Compares what the run has left at its end."""
    self._check_parameters(len(self._recorded))

  def _made(
    self, worker: int, trace: trace_file.Trace, read: tuple[types.Version, ...]
  ) -> _Made:
    actor_learner = self._actor_learners[worker]
    if trace.new_seed is not None:
      actor_learner.restart(trace.new_seed)
    self._reads.clear()
    self._reads.extend(read)
    if trace.memory_changes is not None:
      return actor_learner.learn_minibatch()
    return actor_learner.play_segment(due=trace.minibatches_due)

  def _draw_early(self, index: int) -> None:
    """Draws minibatches whose memory is as it was when they were drawn.

    Workers that share a memory draw at any time, not in the order of updates.
    """
    if self._job.replay is None:
      return
    ends = [start for start in self._recorded.sessions if start > index]
    end = min(ends, default=len(self._recorded))
    for worker, numbers in enumerate(self._numbers):
      if worker in self._drawn or not numbers or numbers[0] >= end:
        continue
      trace = self._recorded[numbers[0]].trace
      changes = self._job.replay.memory.changes(worker)
      if (
        trace.memory_changes == changes - self._memory_changes[worker]
        and max(trace.reads) <= index
      ):
        read = tuple(self._kept[number] for number in trace.reads)
        self._drawn[worker] = self._made(worker, trace, read)

  def _resumptions(self, index: int) -> list[trace_file.Session]:
    """Returns the sessions that begin here, but for that of the beginning."""
    found = self._recorded.sessions.get(index, [])
    return found if index else found[1:]

  def _resume(self, session: trace_file.Session, index: int) -> None:
    """Does what a process does that resumes from a checkpoint."""
    first = self._recorded.sessions[0][-1]
    problem = _difference(first.platform, session.platform)
    changed = [
      name
      for name in sorted({*first.settings, *session.settings})
      if first.settings.get(name) != session.settings.get(name)
      and name not in self._without_effect
    ]
    if changed and index:
      problem = f'other settings: {", ".join(changed)}'
    if problem:
      raise errors.RunError(
        f'after contribution {index} the run has resumed with {problem}; it is '
        'repeated until there'
      )
    replay = self._job.replay
    if replay and session.empty_memory:
      empty = Memory(**replay.memory.arguments).capture()
      replay.memory.restore(empty)
    for worker in self._team:
      if session.empty_memory:
        worker.state = worker.state._replace(minibatches_due=0)
      if replay:
        self._memory_changes[worker.index] = replay.memory.changes(worker.index)
      if worker.index in session.restarted:
        state = worker.state
        worker.start(
          self._job.learner,
          seed=replayable.next_seed(int(state.action_log.seeds[0])),
          key=state.carry.key,
        )
    self._begin_session()

  def _check_parameters(self, index: int) -> None:
    wanted = self._recorded.digests.get(index)
    params = self._job.store.read().params
    if self._check and wanted and trace_file.digest(params) != wanted:
      raise DifferenceError(
        f'after contribution {index} the parameters differ from the recorded '
        'ones'
      )

  def _compare(
    self,
    contribution: Contribution,
    worker: int,
    wanted: trace_file.Trace,
    index: int,
  ) -> None:
    """Raises DifferenceError if a contribution is not as recorded."""
    found = contribution.trace
    assert found
    of_segment, of_gradient = trace_file.checksums(found)
    problem = ''
    if found.memory_changes is not None and wanted.memory_changes != (
      found.memory_changes - self._memory_changes[worker]
    ):
      problem = 'its minibatch is of another state of the replay memory'
    elif of_segment != wanted.of_segment:
      problem = 'its minibatch is another one'
      if found.memory_changes is None:
        problem = (
          'its segment has other actions, rewards or observations: the '
          'environment does not repeat what it did'
        )
    elif of_gradient != wanted.of_gradient:
      problem = 'the same segment gives another gradient'
    elif found.minibatches_due != wanted.minibatches_due:
      problem = 'another number of minibatches is due after it'
    if problem:
      raise DifferenceError(
        f'contribution {index + 1}, of thread {worker}, differs from the '
        f'recorded one: {problem}'
      )


def _uses(
  recorded: trace_file.Recorded, workers: int
) -> tuple[array.array, list[collections.deque[int]]]:
  """Returns who needs what.

  Returns:
    By version, the last contribution that has read it, -1 without one; and by
    worker, its contributions.

  Raises:
    RunError: if the file has workers that the run has not.
  """
  last_use = array.array('q', [-1]) * (len(recorded) + 1)
  numbers = [collections.deque() for _ in range(workers)]
  for index, (worker, trace) in enumerate(recorded):
    if worker >= workers or not all(0 <= x <= index for x in trace.reads):
      raise errors.RunError(
        f'{trace_file.NAME}: contribution {index + 1} is not one of {workers} '
        'threads, the number in config.json'
      )
    numbers[worker].append(index)
    for number in trace.reads:
      last_use[number] = index
  return last_use, numbers
