"""What `supervise` promises: it waits, ticks, finishes, and returns."""

import threading

import pytest

from a3c_jax.core import threads
from a3c_jax.runs import supervise

LONG = 120.0


class Noting:
  """A service that notes what is called, and may raise or stop."""

  def __init__(self, calls, name, *, stop_at=None, raises_at=None, bad=None):
    self._calls = calls
    self._name = name
    self._ticks = 0
    self._stop_at = stop_at
    self._raises_at = raises_at
    self._bad = bad  # What `finish` raises.

  def tick(self, now):
    self._ticks += 1
    self._calls.append(f'{self._name} tick')
    if self._ticks == self._raises_at:
      raise OSError('the disk is full')
    if self._ticks == self._stop_at:
      return supervise.Stop('enough')
    return None

  def finish(self, now, outcome):
    self._calls.append(f'{self._name} finish')
    if self._bad:
      raise self._bad


def supervised(body, *services):
  return supervise.supervise(
    threads.ThreadGroup.numbered(body, 2, name='t'),
    services,
    read_tick=lambda: supervise.Tick(1.0, 1.0, None),
    period_seconds=0.001,
  )


def running():
  """Names of the workers that have not ended."""
  names = [thread.name for thread in threading.enumerate()]
  return [name for name in names if name.startswith('t-')]


def until_stopped(index, stop):
  assert stop.wait(LONG)


def fail(index, stop):
  if index == 1:
    raise KeyError('broken')
  until_stopped(index, stop)


def test_work_that_is_done_ends_without_a_stop():
  calls = []
  outcome = supervised(lambda i, stop: None, Noting(calls, 'a'))
  assert outcome[:3] == (None, None, [])
  assert calls[-1] == 'a finish' and calls.count('a finish') == 1


def test_a_stop_of_a_service_ends_all_threads_and_the_first_counts():
  calls = []
  outcome = supervised(
    until_stopped,
    Noting(calls, 'a'),
    Noting(calls, 'b', stop_at=3),
    Noting(calls, 'c'),
  )
  assert outcome.stop == supervise.Stop('enough')
  assert (outcome.error, outcome.hung) == (None, [])
  assert running() == []
  assert calls == [
    *['a tick', 'b tick', 'c tick'] * 2,
    *['a tick', 'b tick'],
    *['a finish', 'b finish', 'c finish'],
  ]


def test_what_a_worker_raises_is_the_outcome_and_services_still_finish():
  calls = []
  outcome = supervised(fail, Noting(calls, 'a'))
  assert isinstance(outcome.error, KeyError)
  assert outcome.error.__notes__ == ['raised in thread t-1']
  assert calls[-1] == 'a finish'


def test_a_service_that_raises_ends_the_work_and_all_finish():
  calls = []
  outcome = supervised(
    until_stopped, Noting(calls, 'a', raises_at=2), Noting(calls, 'b')
  )
  assert isinstance(outcome.error, OSError)
  assert calls[-2:] == ['a finish', 'b finish']


@pytest.mark.parametrize('kind', [KeyboardInterrupt, SystemExit])
def test_ctrl_c_ends_the_work_in_good_order(kind):
  calls = []

  class CtrlC(Noting):
    def tick(self, now):
      raise kind

  outcome = supervised(until_stopped, CtrlC(calls, 'a'), Noting(calls, 'b'))
  assert isinstance(outcome.error, kind)
  assert calls == ['a finish', 'b finish']


def test_a_finish_that_fails_is_raised_after_the_others():
  calls = []
  bad = OSError('no space')
  with pytest.raises(OSError, match='no space'):
    supervised(
      lambda i, stop: None, Noting(calls, 'a', bad=bad), Noting(calls, 'b')
    )
  assert calls[-2:] == ['a finish', 'b finish']


def test_a_finish_that_fails_after_a_failure_is_a_note_of_it():
  outcome = supervised(fail, Noting([], 'a', bad=OSError('no space')))
  assert isinstance(outcome.error, KeyError)
  assert 'no space' in outcome.error.__notes__[-1]


def test_threads_that_do_not_end_are_named(monkeypatch):
  monkeypatch.setattr(supervise, 'STOP_SECONDS', 0.01)
  release = threading.Event()

  def hang(index, stop):
    assert release.wait(LONG)

  outcome = supervised(hang, Noting([], 'a', stop_at=1))
  release.set()
  assert outcome.hung == ['t-0', 't-1']


def test_threads_that_cannot_all_be_started_are_stopped():
  class Limited(threads.ThreadGroup):
    def start(self):
      super().start()
      raise RuntimeError("can't start new thread")

  calls = []
  outcome = supervise.supervise(
    Limited.numbered(until_stopped, 2, name='t'),
    [Noting(calls, 'a')],
    read_tick=lambda: supervise.Tick(1.0, 1.0, None),
    period_seconds=0.001,
  )
  assert isinstance(outcome.error, RuntimeError)
  assert calls == ['a finish']
  for thread in threading.enumerate():  # Their bodies have returned.
    if thread.name.startswith('t-'):
      thread.join(LONG)
  assert running() == []


@pytest.mark.parametrize('kind', [KeyboardInterrupt, SystemExit])
def test_ctrl_c_in_a_finish_is_raised_after_the_others(kind):
  calls = []
  with pytest.raises(kind) as raised:
    supervised(
      lambda i, stop: None,
      Noting(calls, 'a', bad=kind()),
      Noting(calls, 'b', bad=OSError('no space')),
    )
  assert calls[-2:] == ['a finish', 'b finish']
  assert 'no space' in raised.value.__notes__[0]


@pytest.mark.parametrize('raises_at', [None, 1])
def test_ctrl_c_while_workers_end_shortens_only_the_wait(raises_at):
  waits = []

  class Interrupted(threads.ThreadGroup):
    def stop(self, seconds):
      waits.append(seconds)
      if len(waits) == 1:
        raise KeyboardInterrupt
      super().stop(LONG)  # For a test that leaves no thread behind.
      return ['t-0']

  calls = []
  outcome = supervise.supervise(
    Interrupted.numbered(until_stopped, 2, name='t'),
    [Noting(calls, 'a', stop_at=1, raises_at=raises_at), Noting(calls, 'b')],
    read_tick=lambda: supervise.Tick(1.0, 1.0, None),
    period_seconds=0.001,
  )
  assert isinstance(outcome.error, OSError if raises_at else KeyboardInterrupt)
  assert outcome.hung == ['t-0']
  assert waits == [supervise.STOP_SECONDS, 0.0]
  assert calls[-2:] == ['a finish', 'b finish']
