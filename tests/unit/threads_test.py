import asyncio
import errno
import threading
import time

import pytest

from a3c_jax.core import threads

LONG = 60.0  # Seconds; no wait in these tests gets near it.


def test_all_bodies_run_with_their_number():
  seen = []
  group = threads.ThreadGroup.numbered(
    lambda i, stop: seen.append(i), 4, name='t'
  )
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

  group = threads.ThreadGroup.numbered(body, 3, name='actor')
  group.start()
  while group.wait(LONG):
    pass
  assert failed.is_set()
  assert isinstance(group.error, KeyError)
  assert group.error.__notes__ == ['raised in thread actor-1']
  assert group.error.__traceback__ is not None
  assert group.stop(LONG) == []


def test_leaving_a_thread_by_exit_is_a_failure():
  def body(thread, stop):
    raise SystemExit(0)

  group = threads.ThreadGroup.numbered(body, 1, name='actor')
  group.start()
  while group.wait(LONG):
    pass
  assert isinstance(group.error, RuntimeError)
  assert str(group.error) == 'thread actor-0 raised SystemExit(0)'
  assert isinstance(group.error.__cause__, SystemExit)


def test_an_error_raised_while_stopping_is_not_lost():
  def body(thread, stop):
    assert stop.wait(LONG)
    raise ValueError('late')

  group = threads.ThreadGroup.numbered(body, 1, name='t')
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

  group = threads.ThreadGroup.numbered(body, 2, name='t')
  group.start()
  while group.wait(LONG):
    pass
  second.set()
  group.stop(LONG)
  assert str(group.error) == '0'


def test_wait_goes_on_while_threads_run():
  release = threading.Event()
  group = threads.ThreadGroup.numbered(
    lambda i, stop: release.wait(LONG), 1, name='t'
  )
  group.start()
  assert group.wait(0.0)
  release.set()
  assert not group.wait(LONG)


def test_hung_threads_are_named_and_do_not_keep_the_process():
  release = threading.Event()
  group = threads.ThreadGroup.numbered(
    lambda i, stop: release.wait(LONG), 2, name='t'
  )
  group.start()
  assert group.stop(0.0) == ['t-0', 't-1']
  daemons = [t for t in threading.enumerate() if t.name in ('t-0', 't-1')]
  assert all(thread.daemon for thread in daemons)
  release.set()
  assert group.stop(LONG) == []


@pytest.mark.parametrize('count', [1, 3])
def test_stop_before_start(count):
  group = threads.ThreadGroup.numbered(lambda i, stop: None, count, name='t')
  assert group.stop(LONG) == []


def test_a_watchdog_counts_seconds_without_a_sign_of_life(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(threads.time, 'perf_counter', lambda: now[0])
  watchdog = threads.Watchdog(10.0)

  def look(seconds, **progress):
    now[0] += seconds
    return watchdog.tick(progress)

  assert look(4, a=1, b=1) == []
  assert look(4, a=1, b=1) == []  # 4 seconds since the first look.
  assert look(4, a=1, b=2) == []
  assert look(4, a=1, b=2) == ['a']  # 12, and of b 4.
  # Equal numbers are the same, though they are other objects.
  assert look(4, b=int('2000')) == []
  assert look(4, b=int('2000')) == look(4, b=int('2000')) == []
  assert look(4, b=int('2000')) == ['b']
  # It ended, and another of that name begins.
  assert look(4) == []
  assert look(4, b=2000) == []


def test_a_process_that_was_paused_has_not_hung(monkeypatch):
  # As by `kill -STOP`, or a laptop that sleeps: a look counts 5 s at most.
  now = [100.0]
  monkeypatch.setattr(threads.time, 'perf_counter', lambda: now[0])
  watchdog = threads.Watchdog(10.0)
  found = []
  for seconds in (1, 86_400, 1, 1, 1, 1, 1):
    now[0] += seconds
    found.append(watchdog.tick({'a': 1}))
  assert found == [[]] * 6 + [['a']]


def test_signs_of_life_are_those_of_a_thread():
  beaten, go_on = threading.Event(), threading.Event()

  def body(thread, stop):
    for _ in range(3 * thread):
      threads.beat()
    if thread:
      beaten.set()
    assert go_on.wait(LONG)

  before = threads.beats(threading.current_thread())
  group = threads.ThreadGroup.numbered(body, 2, name='t')
  group.start()
  assert beaten.wait(LONG)
  counts = group.alive()
  go_on.set()
  assert group.stop(LONG) == []
  # Threads may get the numbers of earlier ones.
  assert counts['t-1'] >= 3
  assert group.alive() == {}
  assert threads.beats(threading.current_thread()) == before


def test_waking_ends_a_wait_and_no_thread():
  group = threads.ThreadGroup.numbered(
    lambda i, stop: stop.wait(LONG), 1, name='t'
  )
  group.start()
  group.wake()
  assert group.wait(LONG)
  group.wake()
  assert group.stop(LONG) == []
  assert group.error is None
  assert not group.wait(0.0)


def test_environments_are_closed_whatever_that_raises(caplog):
  closed = []

  def fail():
    raise SystemExit(3)

  threads.close(
    [lambda: closed.append(1), fail, fail, lambda: closed.append(2)],
    seconds=LONG,
  )
  assert closed == [1, 2]
  assert caplog.messages == ['closing 2 of 4 environments raised SystemExit(3)']
  caplog.clear()
  threads.close([], seconds=LONG)
  assert caplog.messages == []


def test_closing_that_hangs_is_logged_and_left(caplog):
  release = threading.Event()
  threads.close([lambda: release.wait(LONG)], seconds=0.01)
  (message,) = caplog.messages
  release.set()
  assert message.startswith(
    'no progress of environment-close for 0.01 s; the stacks of all threads:'
  )
  assert 'threads_test.py' in message


def test_every_thread_has_an_event_loop_of_its_own():
  loops = {}
  together = threading.Barrier(2, timeout=LONG)

  def body(thread, stop):
    together.wait()
    loops[thread] = asyncio.get_event_loop()
    loops[thread].run_until_complete(asyncio.sleep(0))

  group = threads.ThreadGroup.numbered(body, 2, name='t')
  group.start()
  while group.wait(LONG):
    pass
  assert group.stop(LONG) == []
  assert group.error is None
  assert loops[0] is not loops[1]
  # An environment that holds the loop is stepped by another thread later.
  assert loops[0].run_until_complete(asyncio.sleep(0, 'open')) == 'open'


def test_an_event_loop_is_used_again_unless_it_was_closed():
  loops = []

  def body(thread, stop):
    loops.append(asyncio.get_event_loop())
    if len(loops) == 2:
      loops[-1].close()

  for _ in range(3):
    group = threads.ThreadGroup.numbered(body, 1, name='t')
    group.start()
    while group.wait(LONG):
      pass
    assert group.stop(LONG) == []
    assert group.error is None
  assert loops[0] is loops[1]
  assert loops[2] is not loops[1]


def test_threads_do_without_event_loops_where_files_run_out(monkeypatch):
  def fail():
    raise OSError(errno.EMFILE, 'Too many open files')

  monkeypatch.setattr(threads, '_idle_loops', [])
  monkeypatch.setattr(asyncio, 'new_event_loop', fail)
  done = []
  group = threads.ThreadGroup.numbered(
    lambda i, stop: done.append(i), 2, name='t'
  )
  group.start()
  assert group.stop(LONG) == []
  assert (group.error, sorted(done)) == (None, [0, 1])


def test_a_thread_that_stops_unasked_is_a_failure():
  def body(stop):
    raise threads.Stopped

  group = threads.ThreadGroup({'early': body})
  group.start()
  while group.wait(LONG):
    pass
  assert str(group.error) == 'thread early stopped, but was not asked to'


def test_a_call_beside_a_block_runs_meanwhile_and_is_waited_for():
  entered, ended = threading.Event(), []

  def call():
    assert entered.wait(LONG)
    ended.append(threading.current_thread().name)

  with threads.beside('helper', call):
    entered.set()  # Else the call would never end.
  assert ended == ['helper']


def test_an_error_of_a_call_beside_a_block_is_raised_after_it():
  def call():
    raise KeyError('mine')

  left = []
  with pytest.raises(KeyError) as raised, threads.beside('helper', call):
    left.append(1)
  assert left == [1]
  assert raised.value.__notes__ == ['raised in thread helper']


def test_signs_of_life_of_a_call_beside_a_block_count_for_its_thread():
  main, entered, known = threading.current_thread(), threading.Event(), []

  def call():
    assert entered.wait(LONG)
    before, deadline = threads.beats(main), time.monotonic() + LONG
    while threads.beats(main) < before + 3:
      assert time.monotonic() < deadline
      threads.beat()

  with threads.beside('helper', call, on_thread=known.append):
    (alive,) = known
    assert [*alive()] == ['helper']
    entered.set()
  assert alive() == {}


def test_a_block_that_fails_waits_for_the_call_beside_it():
  failing, ended = threading.Event(), []

  def call():
    assert failing.wait(LONG)
    ended.append(1)
    raise KeyError('of the call')

  with (
    pytest.raises(ValueError, match='of the block'),
    threads.beside('helper', call),
  ):
    failing.set()
    raise ValueError('of the block')
  assert ended == [1]


def test_a_group_that_has_ended_is_not_waited_for_again():
  group = threads.ThreadGroup({'a': lambda stop: None})
  group.start()
  while group.wait(LONG):
    pass
  assert not group.wait(LONG * 1000)
