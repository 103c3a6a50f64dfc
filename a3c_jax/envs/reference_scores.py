"""Scores of random and human players of Atari games."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from typing import NamedTuple


class Reference(NamedTuple):
  """Scores of random and human play, between which scores are normalized."""

  random: float
  human: float


@functools.cache
def rows(name: str) -> list[dict[str, str]]:
  """The rows of a CSV file in `a3c_jax/data`."""
  file = importlib.resources.files('a3c_jax') / 'data' / name
  return list(csv.DictReader(file.read_text('utf-8').splitlines()))


@functools.cache
def _references() -> dict[str, Reference]:
  return {
    row['game']: Reference(
      float(row['random_noop30']), float(row['human_noop30'])
    )
    for row in rows('atari57_human_random.csv')
  }


def reference(game: str, protocol: str) -> Reference | None:
  """A game's scores of random and human play; None if none are published.

  Both are after up to 30 no-ops.

  Source: Wang et al. 2016, arXiv:1511.06581, Table 2: 57 games, episodes of at
  most 30 minutes.

  Args:
    game: of ale-py, snake_case.
    protocol: of the evaluation. Only 'noop30' has human scores: nobody
      published any with sticky actions.
  """
  return _references().get(game) if protocol == 'noop30' else None


def human_normalized(score: float, reference: Reference) -> float:
  """Percent: 0 is random play, 100 is human play."""
  return 100 * (score - reference.random) / (reference.human - reference.random)
