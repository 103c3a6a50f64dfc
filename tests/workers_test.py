import asyncio
import threading

import pytest

from a3c_jax import workers

LONG = 60.0  # Seconds; no wait in these tests gets near it.


def test_all_bodies_run_with_their_number():
  seen = []
  group = workers.Workers(lambda i, stop: seen.append(i), 4, name='t')
  group.start()
  while group.wait(LONG):
    pass
  assert sorted(seen) == [0, 1, 2, 3]
  assert group.error is None
  assert group.stop(LONG) == []


def test_the_first_error_ends_the_wait_and_names_its_thread():
  failed = threading.Event()

  def body(thread, stop):
    if thread == 1:
      failed.set()
      raise KeyError('mine')
    assert stop.wait(LONG)

  group = workers.Workers(body, 3, name='actor')
  group.start()
  while group.wait(LONG):
    pass
  assert failed.is_set()
  assert isinstance(group.error, KeyError)
  assert group.error.__notes__ == ['raised in actor thread 1']
  assert group.error.__traceback__ is not None
  assert group.stop(LONG) == []


def test_leaving_a_thread_by_exit_is_a_failure():
  def body(thread, stop):
    raise SystemExit(0)

  group = workers.Workers(body, 1, name='actor')
  group.start()
  while group.wait(LONG):
    pass
  assert isinstance(group.error, RuntimeError)
  assert str(group.error) == 'actor thread 0 raised SystemExit(0)'
  assert isinstance(group.error.__cause__, SystemExit)


def test_an_error_raised_while_stopping_is_not_lost():
  def body(thread, stop):
    assert stop.wait(LONG)
    raise ValueError('late')

  group = workers.Workers(body, 1, name='t')
  group.start()
  assert group.error is None
  assert group.stop(LONG) == []
  assert str(group.error) == 'late'


def test_the_first_of_several_errors_is_kept():
  second = threading.Event()

  def body(thread, stop):
    if thread == 1:
      assert second.wait(LONG)
    raise ValueError(str(thread))

  group = workers.Workers(body, 2, name='t')
  group.start()
  while group.wait(LONG):
    pass
  second.set()
  group.stop(LONG)
  assert str(group.error) == '0'


def test_wait_goes_on_while_threads_run():
  release = threading.Event()
  group = workers.Workers(lambda i, stop: release.wait(LONG), 1, name='t')
  group.start()
  assert group.wait(0.0)
  release.set()
  assert not group.wait(LONG)


def test_hung_threads_are_named_and_do_not_keep_the_process():
  release = threading.Event()
  group = workers.Workers(lambda i, stop: release.wait(LONG), 2, name='t')
  group.start()
  assert group.stop(0.0) == ['t-0', 't-1']
  daemons = [t for t in threading.enumerate() if t.name in ('t-0', 't-1')]
  assert all(thread.daemon for thread in daemons)
  release.set()
  assert group.stop(LONG) == []


@pytest.mark.parametrize('count', [1, 3])
def test_stop_before_start(count):
  group = workers.Workers(lambda i, stop: None, count, name='t')
  assert group.stop(LONG) == []


def test_every_thread_has_an_event_loop_of_its_own():
  loops = {}
  together = threading.Barrier(2, timeout=LONG)

  def body(thread, stop):
    together.wait()
    loops[thread] = asyncio.get_event_loop()
    loops[thread].run_until_complete(asyncio.sleep(0))

  group = workers.Workers(body, 2, name='t')
  group.start()
  while group.wait(LONG):
    pass
  assert group.stop(LONG) == []
  assert group.error is None
  assert loops[0] is not loops[1]
  # An environment that has kept the loop is stepped by another thread later.
  assert loops[0].run_until_complete(asyncio.sleep(0, 'open')) == 'open'


def test_an_event_loop_is_used_again_unless_it_was_closed():
  loops = []

  def body(thread, stop):
    loops.append(asyncio.get_event_loop())
    if len(loops) == 2:
      loops[-1].close()

  for _ in range(3):
    group = workers.Workers(body, 1, name='t')
    group.start()
    while group.wait(LONG):
      pass
    assert group.stop(LONG) == []
    assert group.error is None
  assert loops[0] is loops[1]
  assert loops[2] is not loops[1]
