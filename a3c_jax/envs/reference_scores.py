"""Scores of random and human players of Atari games."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from typing import NamedTuple


class Reference(NamedTuple):
  """Scores that a game's scale is made of."""

  random: float
  human: float


@functools.cache
def rows(name: str) -> list[dict[str, str]]:
  file = importlib.resources.files('a3c_jax') / 'data' / name
  with file.open(newline='') as table:
    return list(csv.DictReader(table))


@functools.cache
def _references() -> dict[str, Reference]:
  return {
    row['game']: Reference(
      float(row['random_noop30']), float(row['human_noop30'])
    )
    for row in rows('atari57_human_random.csv')
  }


def reference(game: str, protocol: str) -> Reference | None:
  """Scores of a random and of a human player, after up to 30 no-ops.

  Source: Wang et al. 2016, arXiv:1511.06581, Table 2: 57 games, episodes of at
  most 30 minutes.

  Args:
    game: of ale-py, snake_case.
    protocol: only 'noop30' has any: nobody published human scores with sticky
      actions.

  Returns:
    None where there are none.
  """
  return _references().get(game) if protocol == 'noop30' else None


def human_normalized(score: float, reference: Reference) -> float:
  """Percent: 0 is random play, 100 is human play."""
  return 100 * (score - reference.random) / (reference.human - reference.random)
