"""Where the time of a thread goes."""

import time

from a3c_jax.core import stopwatch


def test_phases_add_up_to_the_time_that_passed():
  began = time.perf_counter()
  clock = stopwatch.Stopwatch()
  created = time.perf_counter()
  for _ in range(100):
    clock.lap('acting')
    clock.lap('emulator')
  last = time.perf_counter()
  clock.lap('acting')
  ended = time.perf_counter()
  total = sum(clock.seconds.values())
  assert last - created <= total <= ended - began
  assert set(clock.seconds) == set(stopwatch.PHASES)
  assert clock.seconds['update'] == 0 < clock.seconds['acting']


def test_phases_move_keeps_the_sum():
  clock = stopwatch.Stopwatch()
  clock.lap('update')
  before = clock.seconds['update']
  clock.move('update', 'lock_wait', 0.5)
  assert clock.seconds['lock_wait'] == 0.5
  assert clock.seconds['update'] == before - 0.5
