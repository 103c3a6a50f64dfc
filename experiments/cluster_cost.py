"""What a cluster of any size would do: frames, load and lag, by simulation.

  python experiments/cluster_cost.py --machines=1,2,4,16,100 --shards=1,2,4
  python experiments/cluster_cost.py --one_machine --cores=2 --threads=1 \
    --machines=1,2,3,4 --shards=1

It plays nothing. Threads of machines compute for a time, send a gradient, and
wait for the parameters; a server applies the gradients one after the other. The
times and the bytes are flags; their defaults are those of A3C on Pong. With
shards, each of several servers has an equal part of the parameters.
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # First: the other imports take seconds.

# isort: split
import collections
from collections.abc import Callable
import dataclasses
import heapq
import itertools
from typing import Any, NamedTuple

import numpy as np

from a3c_jax import command_line
from a3c_jax.core import errors, fields, paths, tables
from a3c_jax.settings import flags as flags_lib

_MEASURED = 'docs/cluster.md, Pong with the small network'
_BEGINNING = 0.25  # Of the updates. No mean has them.


def _counts(help_text: str, default: tuple[int, ...]) -> Any:
  return fields.setting(
    help_text,
    'whole numbers from 1 to 1000, separated by commas',
    lambda value: value and all(1 <= each <= 1000 for each in value),
    default=default,
    source='ours',
  )


@dataclasses.dataclass(frozen=True)
class Options:
  machines: tuple[int, ...] = _counts(
    'Machines that act and learn, one node each.', (1, 2, 4, 16, 100)
  )
  shards: tuple[int, ...] = _counts(
    'Parameter servers, each with its own machine and an equal part of the '
    'parameters.',
    (1, 2, 4, 8, 31),
  )
  threads: int = fields.count(
    'Threads of each node.', most=1000, default=16, source='ours'
  )
  cores: int = fields.count(
    'Cores of each machine.', most=1000, default=16, source='ours'
  )
  one_machine: bool = fields.true_or_false(
    'All nodes and the server share the cores of one machine, and no network.',
    default=False,
    source='ours',
  )
  segment_ms: float = fields.positive(
    'Processor time of a node to play a segment, to compute its gradient and '
    'to talk to the server, in milliseconds.',
    default=34.0,
    source=_MEASURED,
  )
  ray_ms: float = fields.not_negative(
    'Processor time of Ray beside the node, on its machine, for each push, in '
    'milliseconds.',
    default=7.0,
    source=_MEASURED,
  )
  segment_variation: float = fields.not_negative(
    'Standard deviation of that time, divided by its mean.',
    most=10,
    default=0.1,
    source='ours',
  )
  frames: int = fields.count(
    'Emulator frames of a segment.', default=160, source=_MEASURED
  )
  server_ms: float = fields.positive(
    'Processor time of the server for each update, in milliseconds, without '
    'that of a call. Shards divide it.',
    default=3.7,
    source=_MEASURED,
  )
  call_ms: float = fields.not_negative(
    'Processor time of a server for each call, in milliseconds.',
    default=1.4,
    source='docs/cluster.md, Catch',
  )
  push_bytes: int = fields.count(
    'Bytes of a push. Shards divide it.', default=2_938_292, source=_MEASURED
  )
  answer_bytes: int = fields.count(
    'Bytes of parameters. Shards divide it.',
    default=2_711_772,
    source=_MEASURED,
  )
  fetch_updates: int = fields.count(
    'As of --runtime=cluster.', default=1, source='ours'
  )
  gigabits: float = fields.positive(
    'What a network card carries each way, in 10^9 bits per second.',
    default=10.0,
    source='ours',
  )
  latency_ms: float = fields.not_negative(
    'Time of a byte from a machine to another, in milliseconds.',
    default=0.1,
    source='ours',
  )
  updates: int = fields.count(
    'Simulated updates, at least 5 of each thread.',
    least=100,
    default=4000,
    source='ours',
  )
  csv: str = fields.path(
    'File for the table.', optional=True, default='', source='ours'
  )


class Costs(NamedTuple):
  """What one push takes, in seconds and bytes, at one of the shards."""

  segment: float  # processor seconds at the node, once for all shards
  service: float  # processor seconds of the server
  push: float  # seconds that a card needs for the gradient
  answer: float  # seconds that a card needs for the parameters
  latency: float  # seconds from card to card


class Outcome(NamedTuple):
  """What a simulation measured."""

  updates_per_second: float
  utilisation: float  # of a server's processor, in [0, 1]
  lags: np.ndarray  # [U] int, of each update those of others since its version
  with_parameters: float  # of all answers, in [0, 1]


def costs(options: Options, shards: int) -> Costs:
  """Returns what a push takes at each of some shards."""
  bytes_per_second = options.gigabits * 1e9 / 8
  return Costs(
    segment=1e-3 * (options.segment_ms + options.ray_ms),
    service=1e-3 * (options.call_ms + options.server_ms / shards),
    push=options.push_bytes / shards / bytes_per_second,
    answer=options.answer_bytes / shards / bytes_per_second,
    latency=1e-3 * options.latency_ms,
  )


def capacity(of: Costs) -> tuple[float, str]:
  """Returns the most updates per second, and what does not allow more.

  Each shard takes part in each update. All answers have parameters.
  """
  limits = {
    'processor': of.service,
    'card, pushes': of.push,
    'card, answers': of.answer,
  }
  name = max(limits, key=lambda each: limits[each])
  return 1 / limits[name], name


def cycle(of: Costs, shards: int, *, threads: int, cores: int) -> float:
  """Returns the seconds from push to push of a thread that nobody holds up.

  Args:
    of: the costs at one shard.
    shards: that there are. A node's card carries their parts in turn.
    threads: of a node.
    cores: that they share.
  """
  return (
    of.segment * max(1.0, threads / cores)
    + shards * (of.push + of.answer)
    + 2 * of.latency
    + of.service
  )


def saturating_machines(
  of: Costs, shards: int, *, threads: int, cores: int
) -> float:
  """Returns how many machines ask for as much as the servers can do."""
  updates_per_second, _ = capacity(of)
  seconds = cycle(of, shards, threads=threads, cores=cores)
  return updates_per_second * seconds / threads


class Clock:
  """Has events happen in the order of their times."""

  def __init__(self):
    self.now = 0.0  # seconds
    self._events: list[tuple[float, int, Callable[[], None]]] = []
    self._numbers = itertools.count()

  def at(self, time: float, event: Callable[[], None]) -> None:
    heapq.heappush(self._events, (time, next(self._numbers), event))

  def run(self, more: Callable[[], bool]) -> None:
    """Goes on while `more` says so."""
    while more():
      self.now, _, event = heapq.heappop(self._events)
      event()


class Card:
  """One direction of a network card. It carries one thing after the other."""

  def __init__(self):
    self._free = 0.0

  def carry(self, now: float, seconds: float) -> float:
    """Returns when it has carried something that comes now."""
    self._free = max(now, self._free) + seconds
    return self._free


class Cores:
  """Cores that all who compute share equally. Each uses at most one."""

  def __init__(self, clock: Clock, count: int):
    self._clock = clock
    self._count = count
    # Processor seconds of one who has computed from the beginning. So a job's
    # end is known when it starts, whoever else comes and goes.
    self._each = 0.0
    self._at = 0.0
    self._jobs: list[tuple[float, int, Callable[[], None]]] = []
    self._numbers = itertools.count()
    self._newest = 0

  def compute(self, seconds: float, done: Callable[[], None]) -> None:
    """Calls `done` after so many processor seconds."""
    self._advance()
    heapq.heappush(
      self._jobs, (self._each + seconds, next(self._numbers), done)
    )
    self._expect()

  def _share(self) -> float:
    return min(1.0, self._count / len(self._jobs))

  def _advance(self) -> None:
    if self._jobs:
      self._each += (self._clock.now - self._at) * self._share()
    self._at = self._clock.now

  def _expect(self) -> None:
    """Plans the next end. Who comes later makes it a later one."""
    self._newest += 1
    number = self._newest
    if self._jobs:
      left = self._jobs[0][0] - self._each
      end = self._clock.now + left / self._share()
      self._clock.at(end, lambda: self._end(number))

  def _end(self, number: int) -> None:
    if number != self._newest:
      return
    self._advance()
    _, _, done = heapq.heappop(self._jobs)
    self._expect()
    done()


class _Node:
  """Threads that share the versions which their answers have brought."""

  def __init__(self, cores: Cores, shards: int):
    self.cores = cores
    self.out, self.into = Card(), Card()
    self.versions = [0] * shards


class _Server:
  """A shard, which does one update after the other."""

  def __init__(self, cores: Cores):
    self.out, self.into = Card(), Card()
    self.updates = 0
    self._cores = cores
    self._waiting: collections.deque[tuple[float, Callable[[], None]]] = (
      collections.deque()
    )

  def update(self, seconds: float, done: Callable[[], None]) -> None:
    """Calls `done` after an update of so many processor seconds."""
    self._waiting.append((seconds, done))
    if len(self._waiting) == 1:
      self._start()

  def _start(self) -> None:
    self._cores.compute(self._waiting[0][0], self._finish)

  def _finish(self) -> None:
    _, done = self._waiting.popleft()
    done()
    self.updates += 1
    if self._waiting:
      self._start()


class _Cluster:
  """Nodes and servers at work."""

  def __init__(self, options: Options, machines: int, shards: int):
    self._options = options
    self._costs = costs(options, shards)
    if options.one_machine:
      self._costs = self._costs._replace(push=0.0, answer=0.0, latency=0.0)
    self._clock = clock = Clock()
    self._random = np.random.default_rng(0)
    shared = Cores(clock, options.cores)
    alone = not options.one_machine
    self._nodes = [
      _Node(Cores(clock, options.cores) if alone else shared, shards)
      for _ in range(machines)
    ]
    self._servers = [
      _Server(Cores(clock, 1) if alone else shared) for _ in range(shards)
    ]
    # Of each update of each shard: its lag, and whether the answer had
    # parameters.
    self._done: list[tuple[int, bool]] = []

  def run(self, updates: int) -> Outcome:
    """Returns means over so many updates, but the first ones."""
    for node in self._nodes:
      for _ in range(self._options.threads):
        self._play(node)
    shards = len(self._servers)
    begin, end = int(_BEGINNING * updates) * shards, updates * shards
    self._clock.run(lambda: len(self._done) < begin)
    start = self._clock.now
    self._clock.run(lambda: len(self._done) < end)
    done = self._done[begin:]
    rate = len(done) / shards / (self._clock.now - start)
    return Outcome(
      updates_per_second=rate,
      utilisation=min(1.0, rate * self._costs.service),
      lags=np.array([lag for lag, _ in done]),
      with_parameters=float(np.mean([sent for _, sent in done])),
    )

  def _play(self, node: _Node) -> None:
    """Has a thread compute a segment, then send it to all shards."""
    read = tuple(node.versions)
    seconds, variation = self._costs.segment, self._options.segment_variation
    if variation:
      shape = variation**-2
      seconds = self._random.gamma(shape, seconds / shape)
    node.cores.compute(seconds, lambda: self._push(node, read))

  def _push(self, node: _Node, read: tuple[int, ...]) -> None:
    left = len(self._servers)

    def answered():
      nonlocal left
      left -= 1
      if not left:
        self._play(node)

    for number, server in enumerate(self._servers):
      self._push_to(number, server, node, read[number], answered)

  def _push_to(
    self,
    number: int,
    server: _Server,
    node: _Node,
    read: int,
    answered: Callable[[], None],
  ) -> None:
    known = node.versions[number]

    def arrive():
      server.update(self._costs.service, apply)

    def apply():
      version = server.updates + 1
      sends = version >= known + self._options.fetch_updates
      self._done.append((server.updates - read, sends))

      def receive():
        if sends:
          node.versions[number] = max(node.versions[number], version)
        answered()

      seconds = self._costs.answer if sends else 0.0
      self._carry(seconds, server.out, node.into, receive)

    self._carry(self._costs.push, node.out, server.into, arrive)

  def _carry(
    self, seconds: float, out: Card, into: Card, then: Callable[[], None]
  ) -> None:
    """Calls `then` when something has passed two cards, which overlap."""
    first_byte = out.carry(self._clock.now, seconds) - seconds
    self._clock.at(
      first_byte + self._costs.latency,
      lambda: self._clock.at(into.carry(self._clock.now, seconds), then),
    )


def simulate(options: Options, machines: int, shards: int) -> Outcome:
  """Returns what so many machines and shards do."""
  updates = max(options.updates, 5 * machines * options.threads)
  return _Cluster(options, machines, shards).run(updates)


def row(options: Options, machines: int, shards: int) -> dict[str, Any]:
  """Returns a row of the table."""
  outcome = simulate(options, machines, shards)
  rate = outcome.updates_per_second
  megabytes = rate / shards / 1e6
  of = costs(options, shards)
  return {
    'shards': shards,
    'machines': machines,
    'frames_per_second': round(rate * options.frames),
    'updates_per_second': round(rate, 1),
    'server_utilisation': round(outcome.utilisation, 3),
    'policy_lag': round(float(np.mean(outcome.lags)), 1),
    'policy_lag_p95': int(np.percentile(outcome.lags, 95)),
    'policy_lag_max': int(np.max(outcome.lags)),
    'megabytes_per_second_in': round(options.push_bytes * megabytes, 1),
    'megabytes_per_second_out': round(
      options.answer_bytes * outcome.with_parameters * megabytes, 1
    ),
    'card_utilisation': round(
      rate * max(of.push, of.answer * outcome.with_parameters), 3
    ),
  }


def saturation(options: Options, shards: int) -> str:
  """Returns a line that says where so many shards end."""
  of = costs(options, shards)
  updates_per_second, name = capacity(of)
  machines = saturating_machines(
    of, shards, threads=options.threads, cores=options.cores
  )
  return (
    f'{shards} shards: at most {updates_per_second * options.frames:,.0f} '
    f'frames/s, {updates_per_second:,.0f} updates/s, by {machines:.1f} '
    f'machines ({name})'
  )


def main(options: Options) -> None:
  fields.check_settings(options)
  if options.csv:
    paths.check_file(options.csv, flag='csv')
  rows = []
  for shards in options.shards:
    for machines in options.machines:
      rows.append(row(options, machines, shards))
      print(*(f'{name}={value}' for name, value in rows[-1].items()))
    if not options.one_machine:
      print(saturation(options, shards))
  if options.csv:
    with (
      errors.naming(f'--csv={options.csv}'),
      open(options.csv, 'w', newline='') as file,
    ):
      tables.write(file, rows)


if __name__ == '__main__':
  _options = flags_lib.define_options(Options)
  command_line.run(lambda: main(_options()))
