import signal
import threading

import pytest

from a3c_jax.core import signals

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(signals.time, 'monotonic', lambda: now[0])
  return now


@pytest.mark.parametrize('number', ALL)
def test_a_signal_is_noted_and_told_once(number, capfd):
  before = [signal.getsignal(each) for each in ALL]
  woken = []
  with signals.Signals() as found:
    found.wake = lambda: woken.append(1)
    assert not found.received
    signal.raise_signal(number)
    signal.raise_signal(number)
    assert found.received
  assert woken == [1]
  assert capfd.readouterr().out == '\nstopping\n'
  assert [signal.getsignal(each) for each in ALL] == before


@pytest.mark.parametrize(
  'given, expected',
  [
    # Numbers, and the seconds before each.
    ([('SIGTERM', 0), ('SIGTERM', 2)], ['SIGTERM']),
    ([('SIGTERM', 0), ('SIGINT', 2)], ['SIGINT']),
    # GNU timeout sends it twice; so nobody means the second one.
    ([('SIGTERM', 0), ('SIGTERM', 0.01)], []),
    ([('SIGTERM', 0), ('SIGTERM', 0.01), ('SIGTERM', 2)], ['SIGTERM']),
    # The kernel and a shell tell of the same terminal; then systemd ends it.
    ([('SIGHUP', 0), ('SIGHUP', 2), ('SIGTERM', 2)], []),
    ([('SIGHUP', 0), ('SIGTERM', 2), ('SIGTERM', 2)], ['SIGTERM']),
    # SLURM: its warning, and the end of the time.
    ([('SIGUSR1', 0), ('SIGUSR1', 9), ('SIGTERM', 120)], []),
  ],
)
def test_which_second_signal_ends_at_once(clock, given, expected):
  again = []
  with signals.Signals(again.append):
    for name, seconds in given:
      clock[0] += seconds
      signal.raise_signal(signal.Signals[name])
  assert again == [signal.Signals[name] for name in expected]


def test_what_nohup_ignores_stays_ignored():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with signals.Signals() as found:
      signal.raise_signal(signal.SIGHUP)
      assert not found.received
      assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


def test_signals_are_taken_back_from_a_simulator():
  before = signal.getsignal(signal.SIGTERM)
  with signals.Signals() as found:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    found.renew()
    signal.raise_signal(signal.SIGTERM)
    assert found.received
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_interrupts_only_where_it_may():
  with signals.Signals() as found:
    with pytest.raises(signals.Interrupted), found.raising():
      signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    with pytest.raises(signals.Interrupted), found.raising():
      raise AssertionError('it came before')


def test_another_thread_notes_nothing():
  entered = []

  def body():
    with signals.Signals() as found:
      entered.append(found.received)

  thread = threading.Thread(target=body)
  thread.start()
  thread.join()
  assert entered == [False]
