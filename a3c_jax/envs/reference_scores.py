"""Scores of random and human players of Atari games."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from typing import NamedTuple


class Reference(NamedTuple):
  """Raw scores of a game that are 0% and 100% of its scale."""

  random: float
  human: float


@functools.cache
def rows(name: str) -> list[dict[str, str]]:
  """The rows of a CSV file of the package's folder `data`, by column."""
  file = importlib.resources.files('a3c_jax') / 'data' / name
  return list(csv.DictReader(file.read_text().splitlines()))


@functools.cache
def _references() -> dict[str, Reference]:
  return {
    row['game']: Reference(
      float(row['random_noop30']), float(row['human_noop30'])
    )
    for row in rows('atari57_human_random.csv')
  }


def reference(game: str, protocol: str) -> Reference | None:
  """The scores of a random and of a human player, after up to 30 no-ops.

  Source: Wang et al. 2016, arXiv:1511.06581, Table 2: 57 games, episodes of at
  most 30 minutes.

  Args:
    game: of ale-py, snake_case.
    protocol: of the evaluation. Only 'noop30' has reference scores: nobody
      published human scores with sticky actions.

  Returns:
    None if there are none.
  """
  return _references().get(game) if protocol == 'noop30' else None


def human_normalized(score: float, reference: Reference) -> float:
  """A score in percent: 0 is random play, 100 is human play."""
  return 100 * (score - reference.random) / (reference.human - reference.random)


def normalized(game: str, protocol: str, score: float) -> float | None:
  """A score in percent, 100 for human play; None without a `reference`."""
  scale = reference(game, protocol)
  return human_normalized(score, scale) if scale else None
