"""Gradients that are written by hand against differences of numbers.

In float64, where rounding hides nothing. Functions that are linear in each of
their arguments alone are checked in float32 too: differences of large steps
are then exact but for rounding.
"""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from a3c_jax import networks
from a3c_jax.core import types
from a3c_jax.networks import convolution, forward_cache
from a3c_jax.optim import factored


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield


def normal(*shape, dtype=np.float64, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_product_of_many_rows(float64):
  jax.test_util.check_grads(
    jax.jit(convolution._product),
    (normal(20, 6), normal(6, 3, seed=1)),
    order=1,
    modes=['rev'],
  )


@pytest.mark.parametrize(
  ('version', 'backend', 'multiplies'),
  [((0, 10, 2), 'cpu', 0), ((0, 11, 0), 'cpu', 1), ((0, 11, 0), 'gpu', 0)],
)
def test_bias_of_a_convolution(
  monkeypatch, float64, version, backend, multiplies
):
  monkeypatch.setattr(jax, '__version_info__', version)
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  jax.test_util.check_grads(
    lambda *inputs: convolution._plus_bias(*inputs),  # Traced anew each time.
    (normal(3, 2, 4, 5), normal(5, seed=1)),
    order=1,
    modes=['rev'],
  )
  found = jax.grad(lambda bias: convolution._plus_bias(y, bias).sum())
  y = normal(3, 2, 4, 5)
  np.testing.assert_array_equal(found(normal(5)), [24.0] * 5)
  program = str(jax.make_jaxpr(found)(normal(5)))
  assert program.count('dot_general') == multiplies


@pytest.mark.parametrize(
  ('height', 'width', 'channels', 'size', 'stride'),
  [(9, 9, 2, 4, 2), (7, 10, 3, 3, 1)],
)
def test_convolution_over_windows(
  float64, height, width, channels, size, stride
):
  # Two pieces: of 8 images and of one.
  x = normal(9, height, width, channels)
  kernel = normal(size, size, channels, 2, seed=1)
  convolve = lambda x, kernel: networks.strided_convolution(x, kernel, stride)
  jax.test_util.check_grads(
    jax.jit(convolve), (x, kernel), order=1, modes=['rev']
  )


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_convolution_over_blocks(dtype):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (9, 4, 11, 9)).astype(dtype)
  kernel = normal(4, 4, 4, 2, dtype=np.float32)

  def convolve(kernel, x=x):
    return networks.strided_convolution(x, kernel, 2, channels_first=True)

  check = lambda function, *arguments: jax.test_util.check_grads(
    jax.jit(function),
    arguments,
    order=1,
    modes=['rev'],
    eps=1.0,
    atol=1e-2,
    rtol=1e-3,
  )
  check(convolve, kernel)
  if dtype == np.float32:
    check(convolve, kernel, x / 255)


def test_kept_activations_have_the_gradient_of_what_they_replace(float64):
  x, kernel = normal(5, 4), normal(4, 3, seed=1)

  def plain(kernel):
    return jnp.sum(jnp.tanh(x @ kernel))

  def backward(kernel):
    cached = x @ kernel
    replaced = lambda kernel: jnp.sum(
      jnp.tanh(forward_cache._known(x @ kernel, cached))
    )
    return jax.vjp(replaced, kernel)

  jax.test_util.check_vjp(plain, backward, (kernel,))


def make_segment(obs):
  steps, num_envs = obs.shape[0] - 1, obs.shape[1]
  return types.Segment(
    obs=obs,
    a=np.zeros((steps + 1, num_envs), np.int32),
    r_t=np.zeros((steps, num_envs), np.float32),
    discount_t=np.zeros((steps, num_envs), np.float32),
    is_first=np.zeros((steps + 1, num_envs), bool),
    state=(),
  )


@pytest.mark.parametrize('steps', [3, 12], ids=['in_factors', 'dense'])
def test_gradients_in_factors(float64, steps):
  network = networks.QNetwork(networks.MLPTorso(hidden=(300,)), 3)
  segment = make_segment(normal(steps + 1, 1, 250))
  params = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64),
    jax.jit(network.init)(jax.random.key(0), segment.obs[0]),
  )

  def activations_of(params, segment):
    return forward_cache.apply_and_keep(network, params, segment.obs[:-1])[1]

  def loss(params, target_params, segment, activations):
    q = network.apply(
      forward_cache.given(params, activations), segment.obs[:-1]
    )
    return jnp.sum(jnp.tanh(q) ** 2), ()

  @jax.jit
  def plain(params):
    return jnp.sum(jnp.tanh(network.apply(params, segment.obs[:-1])) ** 2)

  def backward(params):
    form = factored.gradients(
      loss, activations_of, jax.jit(forward_cache.gradients(loss))
    )
    grads, _ = form.gradients(params, None, segment)
    leaves = jax.tree.leaves(grads.tree, is_leaf=factored._is_outer)
    assert sum(map(factored._is_outer, leaves)) == (steps == 3)
    dense = factored.dense(grads)
    np.testing.assert_allclose(
      factored.global_norm(grads.tree), factored.global_norm(dense)
    )
    return plain(params), lambda dy: (jax.tree.map(lambda x: dy * x, dense),)

  jax.test_util.check_vjp(plain, backward, (params,), eps=1e-6)
