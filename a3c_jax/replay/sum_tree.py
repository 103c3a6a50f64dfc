"""A tree of sums, to draw in proportion to priorities."""

from __future__ import annotations

import numpy as np


class SumTree:
  """Numbers >= 0, and the sums of every second, fourth, eighth … of them.

  A sum is always computed anew as left + right, never by adding a difference.
  So the sums depend on the numbers alone, not on the order in which they were
  set: a tree that is filled again after a restart is the same to the bit.

  Source: the sum-tree of Schaul et al. 2016, arXiv:1511.05952, appendix B.2.1.

  >>> tree = SumTree(3)
  >>> tree.set(np.array([0, 1, 2]), np.array([1.0, 0.0, 2.0]))
  >>> tree.total
  3.0
  >>> tree.find(np.array([0.5, 1.0, 2.9])).tolist()
  [0, 2, 2]
  """

  def __init__(self, size: int):
    """Makes a tree of `size` numbers, all 0."""
    self.size = size
    self._depth = max(size - 1, 0).bit_length()
    self._first = 1 << self._depth  # where the numbers begin
    # [1] is the sum of all; below [i] are [2i] and [2i+1]. [0] is unused.
    self._sums = np.zeros(2 * self._first, np.float64)

  @property
  def total(self) -> float:
    """The sum of all numbers."""
    return float(self._sums[1])

  @property
  def nbytes(self) -> int:
    """Bytes of the numbers and the sums."""
    return self._sums.nbytes

  @property
  def leaves(self) -> np.ndarray:
    """[size] float64, the numbers: a view, not to be written to."""
    return self._sums[self._first : self._first + self.size]

  def set(self, at: np.ndarray, values: np.ndarray) -> None:
    """Sets numbers; of one that is named several times, to the last value.

    Args:
      at: [n] int64, each in [0, size).
      values: [n] float64, finite, >= 0.
    """
    sums = self._sums
    node = at + self._first
    sums[node] = values
    for _ in range(self._depth):
      # Neighbours have a parent in common, which is computed twice: cheaper
      # than finding out.
      node = node >> 1
      left = node << 1
      sums[node] = sums[left] + sums[left + 1]

  def fill(self, values: np.ndarray) -> None:
    """Sets all numbers to `values` [size]."""
    self._sums[self._first : self._first + self.size] = values
    first = self._first
    while first > 1:
      below = self._sums[first : 2 * first]
      first //= 2
      self._sums[first : 2 * first] = below[0::2] + below[1::2]

  def find(self, mass: np.ndarray) -> np.ndarray:
    """Returns where the running sum of the numbers exceeds each of `mass`.

    A number that is 0 is never found, whatever the rounding of the sums.

    Args:
      mass: [n] float64, each in [0, total]; the total is > 0.

    Returns:
      [n] int64, each in [0, size).
    """
    sums = self._sums
    node = np.ones(len(mass), np.int64)
    for _ in range(self._depth):
      node = node << 1
      left = sums[node]
      right = (mass >= left) & (sums[node + 1] > 0)
      mass = mass - left * right
      node = node + right
    return node - self._first

  def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws in proportion to the numbers, one from each of equal ranges.

    Returns:
      [count] int64: the k-th has its running sum in the k-th of `count` equal
      ranges of [0, total).
    """
    return self.find(
      (np.arange(count) + rng.random(count)) * self.total / count
    )
