"""The sum tree against a loop over all numbers."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np

from a3c_jax.replay import sum_tree

NUMBERS = st.floats(0, 1e3, allow_subnormal=False)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 8.0]), min_size=1, max_size=40))
def test_finds_what_a_loop_finds(numbers):
  tree = sum_tree.SumTree(len(numbers))
  tree.set(np.arange(len(numbers)), np.array(numbers))
  assert tree.total == sum(numbers)
  # Whole numbers: the sums are exact.
  masses = np.arange(0, sum(numbers), 0.5)
  expected, running = [], 0.0
  for at, number in enumerate(numbers):
    expected += [at] * int(2 * number)
    running += number
  np.testing.assert_array_equal(tree.find(masses), expected)


@given(
  st.integers(1, 40).flatmap(
    lambda size: st.tuples(
      st.just(size),
      st.lists(st.tuples(st.integers(0, size - 1), NUMBERS), max_size=60),
    )
  )
)
def test_a_tree_filled_at_once_is_the_same_to_the_bit(size_and_changes):
  size, changes = size_and_changes
  tree, numbers = sum_tree.SumTree(size), np.zeros(size)
  for at in range(0, len(changes), 3):
    some = changes[at : at + 3]
    tree.set(np.array([x for x, _ in some]), np.array([x for _, x in some]))
    for where, number in some:
      numbers[where] = number
  again = sum_tree.SumTree(size)
  again.fill(numbers)
  np.testing.assert_array_equal(tree.leaves, numbers)
  np.testing.assert_array_equal(tree._sums, again._sums)


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(0, 1000))
def test_a_number_that_is_0_is_never_drawn(numbers, seed):
  tree = sum_tree.SumTree(len(numbers))
  tree.fill(np.array(numbers))
  if not tree.total:
    return
  drawn = tree.draw(50, np.random.default_rng(seed))
  ends = tree.find(np.array([0.0, tree.total]))
  for at in [*drawn, *ends]:
    assert numbers[at] > 0
