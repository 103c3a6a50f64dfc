"""Processes of a cluster without Ray, and the store that calls one."""

import contextlib
import pickle
import queue
import threading
import weakref

import numpy as np

from a3c_jax.acting.worker_state import WorkerState
from a3c_jax.envs import replayable
from a3c_jax.parameters import locked
from a3c_jax.runtimes.cluster import actors, remote_store, server

_POLL_SECONDS = 0.01
_luggage = weakref.WeakValueDictionary()
_NO_ACTIONS = replayable.ActionLog(
  np.zeros(1, np.int64), np.zeros(1, np.int64), np.empty((0, 1), np.int64)
)


def crossed(value):
  """What arrives in another process: its arrays are views of fixed memory."""
  buffers = []
  content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
  return pickle.loads(content, buffers=[bytes(each.raw()) for each in buffers])


class _Luggage:
  """A `processes.Luggage` that crosses by reference, with its recipe."""

  def __init__(self, rule, memory):
    self._rule, self._memory = rule, memory
    _luggage[id(self)] = self

  def __reduce__(self):
    return _found, (id(self),)

  def opened(self, who):
    del who
    return self

  def update_rule(self):
    return self._rule

  def make_store(self, *arguments, memory, **given):
    # That of a test stays in its hands.
    memory = self._memory or memory
    return locked.LockedStore(*arguments, memory=memory, **given)


def _found(number):
  return _luggage[number]


class Process:
  """An `actors.Actor` whose object is in this process.

  Attributes:
    object: that is called.
    ended: whether it has ended.
    fails: what `tell` does next: 'before' and 'after' the call it loses the
      answer.
    called: names of the methods that were called, in order.
  """

  def __init__(self, kind):
    self.object = kind()
    self.ended, self.fails, self.called = False, None, []

  def ask(self, method, *arguments):
    if self.ended:
      raise actors.EndedError('no such process')
    self.called.append(method)
    call = getattr(self.object, method)
    return crossed(call(*crossed(arguments)))

  def tell(self, method, *arguments, while_waiting=lambda: None):
    fails, self.fails = self.fails, None
    if fails == 'before':
      raise actors.UnansweredError('not reached')
    results = queue.SimpleQueue()

    def call():
      try:
        results.put((self.ask(method, *arguments), None))
      except Exception as error:
        results.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    while True:
      with contextlib.suppress(queue.Empty):
        answer, error = results.get(timeout=_POLL_SECONDS)
        break
      while_waiting()
    if fails == 'after':
      raise actors.UnansweredError('no answer')
    if error is not None:
      raise error
    return answer


def served(params, rule, *, worker_states, memory=None, made=None, **given):
  """A process with a server that has a store, and what it says of factors.

  Args:
    params: initial ones.
    rule: of updates.
    worker_states: initial ones.
    memory: replay memory of this process that the store changes.
    made: arguments of the memory that the server makes instead.
    **given: to the store.
  """
  process = Process(server.Server)
  accepts_factored = process.tell(
    'make', _Luggage(rule, memory), params, worker_states, made, given
  )
  return process, accepts_factored


class Remote(remote_store.RemoteStore):
  """A `RemoteStore` of a server of its own, whose states can be anything."""

  def __init__(self, params, rule, *, worker_states, **given):
    process, accepts_factored = served(
      params, rule, worker_states=[*map(_dressed, worker_states)], **given
    )
    super().__init__(process, params, accepts_factored=accepts_factored)

  def push(self, contribution, **given):
    played = tuple(
      each._replace(worker_state=_dressed(each.worker_state))
      for each in contribution.played
    )
    return super().push(contribution._replace(played=played), **given)

  def capture(self, **given):
    state, applied = super().capture(**given)
    states = [each.carry for each in state.worker_states]
    return state._replace(worker_states=states), applied

  def restore(self, state):
    states = [*map(_dressed, state.worker_states)]
    super().restore(state._replace(worker_states=states))


def _dressed(state):
  """A worker's state that carries a name."""
  return WorkerState(state, _NO_ACTIONS)
