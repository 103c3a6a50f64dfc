"""Events in a worker that become a row or a line of the log."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np

INCIDENTS = ('env_restarts', 'bad_gradients')  # Columns of train.csv.


class LearningStatistics(NamedTuple):
  """Scalars of one applied gradient."""

  values: np.ndarray  # [S] float32, in the order of `clipping.stat_names`
  of_replay: bool = False  # of a minibatch, not of a segment


class EpisodeEnded(NamedTuple):
  """The sums of one finished episode."""

  raw_return: float  # sum of the environment's rewards
  clipped_return: float  # sum of the scaled and clipped rewards
  steps: int  # agent decisions


class Incident(NamedTuple):
  """A failure after which the worker continues."""

  kind: str  # one of INCIDENTS
  text: str  # one line for the user


Event = LearningStatistics | EpisodeEnded | Incident


class EventQueue:
  """Incidents that belong to no contribution. Any thread may add; no lock.

  Examples: an environment was replaced; the replay of an action log failed.
  """

  def __init__(self):
    self._incidents: collections.deque[Incident] = collections.deque()

  def add(self, incident: Incident) -> None:
    """Appends an incident."""
    self._incidents.append(incident)

  def drain(self) -> list[Incident]:
    """Removes and returns all incidents, in order. For one thread alone."""
    return [self._incidents.popleft() for _ in range(len(self._incidents))]
