"""experiments/cluster_cost.py: its parts, and clusters computed by hand."""

import cluster_cost
import numpy as np
import pytest
import script_runs

from a3c_jax.core import fields

# 10 MB/s each way: a gradient of 10 kB takes 1 ms, and 20 kB of parameters 2.
GIGABITS = 0.08
MEGABYTE = 10**6


def options(**given):
  """10 ms to compute, 2 ms of the server, nothing else takes time."""
  values = {
    'threads': 1,
    'cores': 16,
    'segment_ms': 10.0,
    'ray_ms': 0.0,
    'segment_variation': 0.0,
    'frames': 160,
    'server_ms': 2.0,
    'call_ms': 0.0,
    'push_bytes': 1,
    'answer_bytes': 1,
    'gigabits': 1e9,
    'latency_ms': 0.0,
    'updates': 400,
  }
  made = cluster_cost.Options(**values | given)
  fields.check_settings(made)
  return made


def rate(machines=1, shards=1, **given):
  outcome = cluster_cost.simulate(options(**given), machines, shards)
  return outcome.updates_per_second


def test_one_machine_of_one_thread_does_one_thing_after_the_other():
  # 10 ms + 2 ms.
  outcome = cluster_cost.simulate(options(), 1, 1)
  assert outcome.updates_per_second == pytest.approx(1000 / 12)
  assert outcome.utilisation == pytest.approx(2 / 12)
  assert np.all(outcome.lags == 0)


def test_the_network_is_part_of_the_cycle():
  # 10 ms + 2 ms, 1 ms and 2 ms for the bytes, twice 3 ms of latency.
  given = {
    'push_bytes': 10_000,
    'answer_bytes': 20_000,
    'gigabits': GIGABITS,
    'latency_ms': 3.0,
  }
  assert rate(**given) == pytest.approx(1000 / 21)
  of = cluster_cost.costs(options(**given), 1)
  seconds = cluster_cost.cycle(of, 1, threads=1, cores=16)
  assert seconds == pytest.approx(0.021)
  # Two shards have half the bytes and half of the update each. The node's card
  # sends 0.5 ms and 0.5 ms; the answers of 1 ms each come one after the other.
  # The first comes after 10 + 0.5 + 3 + 1 + 3 + 1 ms, the second 1 ms later.
  assert rate(shards=2, **given) == pytest.approx(1000 / 19.5)


def test_a_saturated_server_does_one_update_per_service_time():
  # 20 machines ask for 20 / 12 ms; 2 ms each allow 500.
  outcome = cluster_cost.simulate(options(), 20, 1)
  assert outcome.updates_per_second == pytest.approx(500)
  assert outcome.utilisation == pytest.approx(1)
  # Each waits for the 19 others, once per cycle.
  assert np.mean(outcome.lags) == pytest.approx(19)
  # Four shards of half a millisecond allow 2,000: they are idle again.
  assert rate(20, 4) == pytest.approx(20 / 10.5e-3, rel=0.1)


def test_a_call_costs_each_shard_the_same():
  # 1 ms + 2 ms / 4.
  assert rate(100, 4, call_ms=1.0) == pytest.approx(1000 / 1.5)


@pytest.mark.parametrize(
  'given, bytes_per_second',
  [({'push_bytes': MEGABYTE}, 1e7), ({'answer_bytes': MEGABYTE}, 1e7)],
)
def test_a_saturated_card_carries_what_it_can(given, bytes_per_second):
  updates = rate(10, gigabits=GIGABITS, **given)
  assert updates * MEGABYTE == pytest.approx(bytes_per_second)
  assert rate(50, 2, gigabits=GIGABITS, **given) == pytest.approx(2 * updates)


@pytest.mark.parametrize('machines, threads', [(1, 4), (4, 1), (5, 3)])
def test_the_lag_of_an_idle_server_is_one_update_of_each_other_thread(
  machines, threads
):
  given = options(
    threads=threads, server_ms=1e-6, segment_variation=0.1, updates=4000
  )
  outcome = cluster_cost.simulate(given, machines, 1)
  others = machines * threads - 1
  assert outcome.updates_per_second == pytest.approx(
    100 * (others + 1), rel=0.01
  )
  assert np.mean(outcome.lags) == pytest.approx(others, rel=0.05)


def test_parameters_are_fetched_only_if_they_are_newer_by_enough():
  # One thread: each third answer has parameters, so a segment acts with those
  # of 0, 1 or 2 updates before.
  outcome = cluster_cost.simulate(options(fetch_updates=3), 1, 1)
  assert outcome.with_parameters == pytest.approx(1 / 3)
  assert sorted(set(outcome.lags)) == [0, 1, 2]
  assert np.mean(outcome.lags) == pytest.approx(1)


def test_threads_share_the_cores_of_their_machine():
  # 4 threads of 10 ms on 2 cores: 20 ms, and almost nothing for the server.
  assert rate(threads=4, cores=2, server_ms=1e-6) == pytest.approx(4 / 20e-3)
  # On one machine the nodes and the server share a core: 12 ms per update.
  assert rate(3, cores=1, one_machine=True) == pytest.approx(1000 / 12)


def test_jobs_share_cores_equally():
  # One core. A needs 3 s, and B, which comes after 1 s, needs 1 s. Both have
  # half of it: B ends after 1 + 2 s, and A, which then lacks 1 s, after 4 s.
  clock = cluster_cost.Clock()
  cores = cluster_cost.Cores(clock, 1)
  ends = {}

  def job(name, seconds):
    cores.compute(seconds, lambda: ends.setdefault(name, clock.now))

  job('a', 3.0)
  clock.at(1.0, lambda: job('b', 1.0))
  clock.run(lambda: len(ends) < 2)
  assert ends == {'b': pytest.approx(3), 'a': pytest.approx(4)}


def test_a_card_carries_one_thing_after_the_other():
  card = cluster_cost.Card()
  assert [card.carry(*given) for given in [(0, 2), (1, 2), (9, 1)]] == [
    2,
    4,
    10,
  ]


@pytest.mark.parametrize(
  'shards, machines, updates, name',
  [
    # 2 ms of the server; a machine of 16 threads asks for 16 each 14 ms:
    # 10 ms + 2 ms + 1 ms + 1 ms.
    (1, 500 * 14e-3 / 16, 500, 'processor'),
    # 1 ms + 1 ms of the call: the same bytes over the node's card.
    (2, 625 * 13.6e-3 / 16, 625, 'processor'),
  ],
)
def test_where_servers_saturate(shards, machines, updates, name):
  given = options(
    push_bytes=10_000,
    answer_bytes=10_000,
    gigabits=GIGABITS,
    call_ms=1.2 if shards == 2 else 0.0,
    server_ms=0.8 if shards == 2 else 2.0,
  )
  of = cluster_cost.costs(given, shards)
  assert cluster_cost.capacity(of) == (pytest.approx(updates), name)
  assert cluster_cost.saturating_machines(
    of, shards, threads=16, cores=16
  ) == pytest.approx(machines)


def test_a_card_that_saturates_is_named():
  given = options(push_bytes=MEGABYTE, gigabits=GIGABITS)
  assert cluster_cost.capacity(cluster_cost.costs(given, 1)) == (
    pytest.approx(10),
    'card, pushes',
  )
  given = options(answer_bytes=2 * MEGABYTE, gigabits=GIGABITS)
  assert cluster_cost.capacity(cluster_cost.costs(given, 4)) == (
    pytest.approx(20),
    'card, answers',
  )


def test_rows_have_the_loads_of_one_server():
  given = options(push_bytes=10_000, answer_bytes=20_000, gigabits=GIGABITS)
  # 15 ms per update of 160 frames.
  assert cluster_cost.row(given, 1, 1) == {
    'shards': 1,
    'machines': 1,
    'frames_per_second': 10_667,
    'updates_per_second': 66.7,
    'server_utilisation': 0.133,
    'policy_lag': 0.0,
    'policy_lag_p95': 0,
    'policy_lag_max': 0,
    'megabytes_per_second_in': 0.7,
    'megabytes_per_second_out': 1.3,
    'card_utilisation': 0.133,
  }


def test_the_script_writes_its_table(tmp_path):
  code, out, _ = script_runs.run(
    'cluster_cost.py --machines=1,2 --shards=1 --updates=100 --csv=costs.csv',
    cwd=tmp_path,
  )
  assert code == 0
  assert 'shards=1 machines=2 frames_per_second=' in out
  assert '1 shards: at most ' in out
  lines = (tmp_path / 'costs.csv').read_text().splitlines()
  assert lines[0].startswith('shards,machines,frames_per_second,')
  assert [line[:3] for line in lines[1:]] == ['1,1', '1,2']


@pytest.mark.parametrize('flag', ['--machines=0', '--shards=1001'])
def test_bad_counts_are_refused_in_one_line(tmp_path, flag):
  code, _, err = script_runs.run(f'cluster_cost.py {flag}', cwd=tmp_path)
  (line,) = err.splitlines()
  assert code == 2
  assert line.startswith(f'error: {flag}: ')
  assert 'whole numbers from 1 to 1000, separated by commas' in line
