"""Synchronous workers: one update per round, from the gradients of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.acting import actor as actor_lib
from a3c_jax.core import fields, threads, types
from a3c_jax.optim import clipping
from a3c_jax.parameters.store import Contribution, Played, Replayed
from a3c_jax.runtimes import player as player_lib
from a3c_jax.runtimes import replaying, runtime, warm_up
from a3c_jax.runtimes.bad_gradients import BadGradients
from a3c_jax.runtimes.runtime import Job, Worker

_POLL_SECONDS = 0.2  # Between two signs of life of a thread that waits.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(runtime.ThreadSettings):
  """Settings of synchronous workers."""

  reduce: str = fields.one_of(
    'How the gradients of all environments become one, each of which is summed '
    'over the steps of its segment. sum: as in A3C, so more environments make '
    'larger updates. mean: the sum divided by the number of environments; of '
    'minibatches, by the number of their transitions.',
    ('sum', 'mean'),
    default='sum',
    source='paper, algorithm S3: gradients are summed',
  )


class Share(NamedTuple):
  """One worker's part of a round."""

  grads: types.Params | None  # dense, not clipped; None: there is none
  values: np.ndarray | None  # [S] float32, as `clipping.clipped` gives
  played: Played
  frames: int
  replayed: Replayed | None = None  # of a minibatch
  outlier: bool = False  # whether its part of the sum shall be 0


class Round:
  """Where threads meet: the last one to arrive acts for all of them.

  Unlike `threading.Barrier` it shows signs of life of those that wait, and a
  thread that is stopped does not break it.
  """

  def __init__(self, count: int, act: Callable[[list[Any]], None]):
    """Starts the first round.

    Args:
      count: threads that must arrive.
      act: called with what they brought, in the order of their indices.
    """
    self._count = count
    self._act = act
    self._condition = threading.Condition()
    self._brought: dict[int, Any] = {}
    self._number = 0

  def meet(self, index: int, brought: Any, stop: threading.Event) -> bool:
    """Waits until all threads have met and one of them has acted.

    Args:
      index: of the calling thread, in [0, count).
      brought: for `act`.
      stop: ends the wait when it is set.

    Returns:
      Whether the calling thread has acted.

    Raises:
      Stopped: if `stop` was set before all had arrived.
      Exception: what `act` raised, in the thread that called it.
    """
    with self._condition:
      number = self._number
      self._brought[index] = brought
      if len(self._brought) < self._count:
        while self._number == number:
          if stop.is_set():
            raise threads.Stopped
          self._condition.wait(_POLL_SECONDS)
          threads.beat()
        return False
    # Without the lock: those who wait must be able to see `stop`.
    self._act([self._brought[i] for i in range(self._count)])
    with self._condition:
      self._brought = {}
      self._number += 1
      self._condition.notify_all()
    return True


class Synchronous(runtime.Arrangement):
  """One thread for each worker; all of them act on the same parameters.

  Every worker plays a segment and computes its gradient. The last one adds up
  all gradients in the order of workers, clips the sum and updates once. So
  the result does not depend on which thread is faster.

  Source: Clemente et al. 2017, arXiv:1705.04862, algorithm 1, with the
  gradient computed in parts, by those who played.
  """

  def __init__(self, team: Sequence[Worker], job: Job, settings: Settings):
    super().__init__(team, job)

    def combined(sequences):
      divisor = sequences if settings.reduce == 'mean' else 1.0
      return clipping.combined(job.max_grad_norm, divisor=divisor)

    self._gradients = clipping.clipped(job.learner.gradients, None)
    self._combined = combined(sum(worker.env.num_envs for worker in team))
    if job.replay:
      self._replay_gradients = clipping.clipped(job.replay.gradients, None)
      self._replay_combined = combined(job.replay.batch_size * len(team))
    self._bad = BadGradients(job.max_bad_gradients, 'a round of all threads')
    self._round = Round(len(team), self._update)

  def warm_up(self) -> types.Segment:
    job, version = self._job, self._job.store.read()
    with warm_up.acting(
      self._team[0], job, actor_lib.in_training(job.learner, job.store.read)
    ) as segment:
      count = len(self._team)
      if job.learner.learns_from_segments:
        share = self._gradients(version.params, version.target_params, segment)
        grads, _ = self._combined([share] * count)
        job.store.warm_up(grads)
      if job.replay:
        *share, _ = self._replay_gradients(
          version.params, version.target_params, replaying.example(job)
        )
        grads, _ = self._replay_combined([share] * count)
        job.store.warm_up(grads)
      return segment

  def threads(self) -> threads.ThreadGroup:
    due = {worker.state.minibatches_due for worker in self._team}
    # Else the run was not synchronous before.
    in_step = len(due) == 1
    return threads.ThreadGroup.numbered(
      lambda index, stop: self._work(self._team[index], stop, in_step),
      len(self._team),
      name='actor-learner',
    )

  def _work(self, worker: Worker, stop: threading.Event, in_step: bool) -> None:
    job = self._job
    # No update comes within a round, so the newest version is the round's.
    actor = actor_lib.in_training(job.learner, job.store.read)
    player = player_lib.Player(worker, job, actor, stop)
    replayer = None
    if job.replay:
      # The memory changes between rounds alone, so all agree on what is due.
      replayer = replaying.Replayer(
        worker, job, self._replay_gradients, together=self._team
      )
      if not in_step:
        replayer.skip()
    while not stop.is_set():
      if replayer and replayer.due:
        share = self._of_minibatch(replayer, player)
      elif job.store.read().frames < job.frames:
        share = self._of_segment(player, replayer)
      else:
        break
      threads.beat()
      acted = self._round.meet(worker.index, share, stop)
      player.clock.lap('update' if acted else 'waiting')

  def _of_segment(
    self, player: player_lib.Player, replayer: replaying.Replayer | None
  ) -> Share:
    segment, played = player.play()
    if replayer:
      played = replayer.remember(segment, played)
    if not self._job.learner.learns_from_segments:
      return Share(None, None, played, player.frames)
    version = self._job.store.read()
    grads, values = self._gradients(
      version.params, version.target_params, segment.segment
    )
    values = np.asarray(values)  # Waits for the gradient.
    player.clock.lap('gradients')
    return Share(grads, values, played, player.frames)

  def _of_minibatch(
    self, replayer: replaying.Replayer, player: player_lib.Player
  ) -> Share:
    learnt = replayer.learn(player.clock)
    grads = learnt.grads
    if learnt.outlier:
      # With fewer summands XLA would compile another program.
      grads = jax.tree.map(jnp.zeros_like, grads)
    return Share(
      grads,
      learnt.values,
      learnt.played,
      0,
      replayed=learnt.replayed,
      outlier=learnt.outlier,
    )

  def _update(self, shares: list[Share]) -> None:
    """Applies one round; every other thread waits meanwhile."""
    job, version = self._job, self._job.store.read()
    # In a round all shares are of segments, or all are of minibatches.
    of_replay = shares[0].replayed is not None
    outliers = sum(share.outlier for share in shares)
    grads, events = None, ()
    if shares[0].grads is not None and outliers < len(shares):
      combined = self._replay_combined if of_replay else self._combined
      grads, values = combined([(each.grads, each.values) for each in shares])
      grads, event = self._bad.checked(
        grads, np.asarray(values), of_replay=of_replay
      )
      events = (event,)
    job.store.push(
      Contribution(
        grads=grads,
        frames=sum(share.frames for share in shares),
        read_version=version.updates,
        played=tuple(share.played for share in shares),
        events=events,
        rate_scale=job.learner.replay_rate_scale if of_replay else 1.0,
        # Errors that are not finite are no priorities.
        replayed=tuple(
          share.replayed
          for share in shares
          if share.replayed and not share.outlier and grads is not None
        ),
        outliers=outliers,
      )
    )


RUNTIME = runtime.Runtime(
  name='synchronous',
  settings_type=Settings,
  arrange=Synchronous,
  description='all threads update together, once per round (A2C, PAAC)',
  replays=True,
  without={'record': 'whose runs repeat bit for bit without a record'},
)
