"""Where the threads of the synchronous runtime meet."""

import threading

import pytest
from stores import WAIT_SECONDS, for_each, in_threads

from a3c_jax.core import threads
from a3c_jax.runtimes import synchronous


def test_many_rounds_keep_the_order_of_threads():
  rounds, acted = [], []
  meeting = synchronous.Round(4, rounds.append)

  def body(index):
    for number in range(200):
      if meeting.meet(index, (number, index), threading.Event()):
        acted.append(number)

  for_each(4, body)
  assert rounds == [[(number, i) for i in range(4)] for number in range(200)]
  assert acted == [*range(200)]  # One thread in each round.


def test_one_thread_alone_acts_in_every_round():
  brought = []
  meeting = synchronous.Round(1, brought.append)
  assert meeting.meet(0, 'a', threading.Event())
  assert meeting.meet(0, 'b', threading.Event())
  assert brought == [['a'], ['b']]


def test_no_thread_goes_on_before_one_has_acted():
  acted = threading.Event()
  seen = []

  def act(brought):
    acted.set()

  meeting = synchronous.Round(3, act)

  def body(index):
    meeting.meet(index, None, threading.Event())
    seen.append(acted.is_set())

  for_each(3, body)
  assert seen == [True] * 3


def test_an_error_is_raised_by_the_thread_that_acts_alone():
  stop = threading.Event()
  ends = {}

  def act(brought):
    raise KeyError('mine')

  meeting = synchronous.Round(3, act)

  def body(index):
    try:
      meeting.meet(index, None, stop)
    except KeyError as error:
      ends[index] = error
      stop.set()  # As the group of threads does when one fails.
    except threads.Stopped as error:
      ends[index] = error

  for_each(3, body)
  assert sorted(type(each).__name__ for each in ends.values()) == [
    'KeyError',
    'Stopped',
    'Stopped',
  ]


def test_a_stop_ends_the_wait_and_shows_signs_of_life():
  stop = threading.Event()
  meeting = synchronous.Round(2, pytest.fail)
  waiting = []

  def wait():
    thread = threading.current_thread()
    waiting.append(thread)
    began = threads.beats(thread)
    with pytest.raises(threads.Stopped):
      meeting.meet(0, None, stop)
    assert threads.beats(thread) > began

  def stop_it():
    # Once the other thread has shown one sign of life, it waits.
    while not waiting or not threads.beats(waiting[0]):
      threading.Event().wait(0.01)
    stop.set()

  in_threads(wait, stop_it)


def test_a_stop_does_not_end_a_round_in_which_all_have_met():
  stop, act_now = threading.Event(), threading.Event()
  acting = threading.Event()
  brought, ends = [], {}

  def act(shares):
    acting.set()
    assert act_now.wait(WAIT_SECONDS)
    brought.append(shares)

  meeting = synchronous.Round(2, act)

  def body(index):
    try:
      ends[index] = meeting.meet(index, index, stop)
    except threads.Stopped:
      ends[index] = 'stopped'
      act_now.set()

  def stop_it():
    assert acting.wait(WAIT_SECONDS)
    stop.set()

  in_threads(lambda: body(0), lambda: body(1), stop_it)
  assert brought == [[0, 1]]
  assert sorted(map(str, ends.values())) == ['True', 'stopped']
