"""Gradients that are not finite, in a row and not."""

import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax.core import errors, events
from a3c_jax.runtimes.bad_gradients import BadGradients

GOOD, BAD = np.float32([5, 1]), np.float32([5, np.nan])
TREE = {'a': jnp.ones(2), 'b': {'c': jnp.array([1, jnp.inf])}}


def test_a_good_gradient_is_given_back_as_it_is():
  grads, event = BadGradients(0, 'x').checked(TREE, GOOD)
  assert grads is TREE
  assert isinstance(event, events.LearningStatistics)
  np.testing.assert_array_equal(event.values, GOOD)


def test_a_bad_one_is_an_incident_that_names_where_it_began():
  grads, event = BadGradients(1, 'thread 3').checked(TREE, BAD)
  assert grads is None
  assert event.kind == 'bad_gradients'
  assert event.text == 'gradient of thread 3 dropped: b/c is not finite'


def test_a_norm_that_overflows_is_bad_although_all_leaves_are_finite():
  _, event = BadGradients(1, 'x').checked({'a': jnp.ones(2)}, BAD)
  assert 'the global norm is not finite' in event.text


def test_only_those_in_a_row_count():
  bad = BadGradients(2, 'x')
  for values in (BAD, BAD, GOOD, BAD, BAD):
    bad.checked(TREE, values)
  with pytest.raises(errors.BadGradientError, match='^3 gradients.*b/c is the'):
    bad.checked(TREE, BAD)


def test_minibatches_and_segments_count_apart():
  bad = BadGradients(1, 'x')
  bad.checked(TREE, BAD, of_replay=True)
  bad.checked(TREE, BAD)
  bad.checked(TREE, GOOD)
  with pytest.raises(errors.BadGradientError, match='^2 gradients'):
    bad.checked(TREE, BAD, of_replay=True)


def test_none_may_be_allowed():
  with pytest.raises(errors.BadGradientError, match='^1 gradients'):
    BadGradients(0, 'x').checked(TREE, np.float32([5, np.inf]))
