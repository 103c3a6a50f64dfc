"""Parts of parameters: what each has, and that nothing is lost."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import stores

from a3c_jax.core import errors
from a3c_jax.runtimes.cluster import sharding


def params_of(*shapes):
  leaves = {
    f'layer{number}': np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for number, shape in enumerate(shapes)
  }
  return {'params': leaves, 'constants': {'c': np.ones(3, np.float32)}}


def test_a_large_kernel_is_cut_between_two_rows():
  partition = sharding.Partition(params_of((4, 2), (6,), (2,)), 2)
  first, second = partition.split_variables(params_of((4, 2), (6,), (2,)))
  # 16 numbers: each part has 8 of them.
  assert {name: x.shape for name, x in first['params'].items()} == {
    '000000': (4, 2)
  }
  assert {name: x.tolist() for name, x in second['params'].items()} == {
    '000001': [0, 1, 2, 3, 4, 5],
    '000002': [0, 1],
  }
  assert 'constants' in first and 'constants' not in second
  uneven = sharding.Partition(params_of((5, 2)), 2).split_variables(
    params_of((5, 2))
  )
  # Row 2 begins before the middle, so it belongs to the first part.
  assert [x['params']['000000'].shape for x in uneven] == [(3, 2), (2, 2)]


@hypothesis.given(
  shapes=st.lists(
    st.lists(st.integers(1, 7), max_size=3).map(tuple), min_size=1, max_size=6
  ),
  shards=st.integers(1, 5),
)
def test_what_is_divided_can_be_joined(shapes, shards):
  params = params_of(*shapes)
  try:
    partition = sharding.Partition(params, shards)
  except errors.UsageError:
    hypothesis.assume(False)
  parts = partition.split_variables(params)
  assert len(parts) == shards and all(part['params'] for part in parts)
  stores.assert_same(partition.join_variables(parts), params)


@pytest.mark.parametrize(
  'shapes, shards, allowed',
  [
    ([(2, 8)], 3, 2),
    # The first row of the kernel has more than a part of four may have.
    ([(2, 5), (), (2,)], 5, 3),
  ],
)
def test_more_parts_than_can_be_filled_are_refused(shapes, shards, allowed):
  with pytest.raises(errors.UsageError) as error:
    sharding.Partition(params_of(*shapes), shards)
  assert str(error.value) == (
    f'--shards={shards}: a part would have nothing of so small a network; '
    f'allowed: {allowed}, for example'
  )
  assert sharding.Partition(params_of(*shapes), allowed).shards == allowed


def test_parts_are_cut_from_a_network_that_is_no_dict_of_collections():
  params = [np.arange(4.0), np.arange(6.0)]
  partition = sharding.Partition(params, 2)
  stores.assert_same(
    partition.join_variables(partition.split_variables(params)), params
  )
