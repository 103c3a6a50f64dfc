"""Networks, in flax linen: torsos, the LSTM core and the heads.

A torso maps observations [..., *shape] to features [..., F]; a head adds what
an algorithm needs. Every layer starts as Torch's did when the paper was
written: weights and biases uniform in ±1/√fan_in.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import math
import re
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax import base, forward_cache


def _uniform(fan_in: int) -> nn.initializers.Initializer:
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def scale_torso_kernels(params: base.Params, gain: float) -> base.Params:
  """Multiplies the weights, not the biases, of parts named like a torso."""

  def widened(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return leaf * gain if re.search('torso/(.*/)?kernel$', name) else leaf

  trained = jax.tree_util.tree_map_with_path(widened, base.trained(params))
  return base.with_trained(params, trained)


class Scale(NamedTuple):
  """What observations x are scaled by: (x - offset) / span.

  Each is a number, or nested tuples of one for every number of an observation.
  """

  offset: float | tuple
  span: float | tuple


_WIDEST = 1e6  # Bounds farther apart are limits of a type, or of nothing.


def scale_between(
  low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> Scale | None:
  """The scale that brings observations within bounds to [0, 1] or [-1, 1].

  A number whose bounds are both finite goes to [0, 1], or to [-1, 1] if its
  lower bound is negative. A number stays as it is if a bound is infinite, if
  both are equal, or if they are more than 1e6 apart.

  Args:
    low: [...] lower bounds, as of `gymnasium.spaces.Box`.
    high: [...] upper bounds.
    dtype: of observations.

  Returns:
    None if torsos need not be told: for bytes of 0 to 255, which they divide by
    255 anyway, and for observations that stay as they are.
  """
  low, high = np.float64(low), np.float64(high)
  with np.errstate(invalid='ignore'):  # Of two infinite bounds.
    width = high - low
    bounded = np.isfinite(width) & (width > 0) & (width <= _WIDEST)
    signed = low < 0
    offset = np.where(bounded, np.where(signed, (low + high) / 2, low), 0.0)
    span = np.where(bounded, np.where(signed, width / 2, width), 1.0)
  largest = 255.0 if dtype == np.uint8 else 1.0
  if (offset == 0).all() and (span == largest).all():
    return None
  return Scale(_as_tuples(offset), _as_tuples(span))


def _as_tuples(values):
  """One number if all are the same. Modules can be hashed with tuples alone."""
  if (values == values.flat[0]).all():
    return float(values.flat[0])

  def tuples(numbers):
    return tuple(map(tuples, numbers)) if isinstance(numbers, list) else numbers

  return tuples(values.tolist())


def _scaled(obs: jax.Array, scale: Scale | None) -> jax.Array:
  """Observations [..., *shape], as floats if they are scaled here."""
  if scale is None:
    return obs
  offset, span = (np.array(values, np.float32) for values in scale)
  lead = (1,) * (obs.ndim - max(offset.ndim, span.ndim))
  offset, span = (
    values.reshape(lead + values.shape) if values.ndim else values
    for values in (offset, span)
  )
  return (obs.astype(jnp.float32) - offset) / span


class Linear(nn.Module):
  """A dense layer, [..., in] -> [..., features]."""

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = _uniform(x.shape[-1])
    return nn.Dense(self.features, kernel_init=init, bias_init=init)(x)


def strided_convolution(
  x: jax.Array, kernel: jax.Array, stride: int, *, channels_first: bool = False
) -> jax.Array:
  """A VALID convolution, in the forms that are fastest on the CPU.

  Equals `jax.lax.conv_general_dilated` with that stride, whose gradient for the
  kernel is slow. For segments of 5 steps these forms halve the gradient of the
  small Atari network's second layer and take a fifth off the first one's.

  Args:
    x: [N, H, W, C], or [N, C, H, W] if channels first; float32, or uint8, which
      counts as 0 to 1.
    kernel: [size, size, C, F], size a multiple of the stride.
    stride: pixels.
    channels_first: the layout of x.

  Returns:
    [N, H', W', F], H' = (H - size) // stride + 1.
  """
  if channels_first or x.dtype == jnp.uint8:
    convolve = functools.partial(_over_blocks, channels_first=channels_first)
  else:
    convolve = _over_windows
  # What a piece of 8 images becomes in between still fits the cache. But more
  # than 16 pieces would take long to compile.
  length = max(8, math.ceil(len(x) / 16))
  pieces = [
    convolve(x[first : first + length], kernel, stride)
    for first in range(0, max(len(x), 1), length)
  ]
  return jnp.concatenate(pieces)


def _over_blocks(x, kernel, stride, *, channels_first):
  """As a convolution of stride 1 over blocks of stride² pixels."""
  size, _, channels, features = kernel.shape
  blocks = size // stride
  height, width = x.shape[2:] if channels_first else x.shape[1:3]
  rows = (height - size) // stride + blocks
  columns = (width - size) // stride + blocks
  kernel = kernel.reshape(blocks, stride, blocks, stride, channels, features)
  # What lies together in memory stays together: that is the faster way.
  if channels_first:
    x = x[:, :, : rows * stride, : columns * stride]
    x = x.reshape(-1, channels, rows, stride, columns, stride)
    x = _keep_last(x, (0, 2, 4, 1, 3))
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5)
  else:
    x = x[:, : rows * stride, : columns * stride]
    x = x.reshape(-1, rows, stride, columns, stride, channels)
    x = _keep_last(x, (0, 1, 3, 2, 4))
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
  return jax.lax.conv_general_dilated(
    _as_floats(x.reshape(-1, rows, columns, stride**2 * channels)),
    kernel.reshape(blocks, blocks, -1, features),
    (1, 1),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _over_windows(x, kernel, stride):
  """As one matrix product over all windows of the images."""
  count, height, width, channels = x.shape
  size, _, _, features = kernel.shape
  rows = (height - size) // stride + 1
  columns = (width - size) // stride + 1
  blocks = size // stride
  x = x[:, :, : (columns - 1 + blocks) * stride]
  # Pieces of `stride` pixels of a row, which lie together in memory.
  x = x.reshape(count, height, -1, stride * channels)
  windows = jnp.stack(
    [
      x[:, row : row + (rows - 1) * stride + 1 : stride, column:][
        :, :, :columns
      ]
      for row in range(size)
      for column in range(blocks)
    ],
    axis=3,
  )
  y = _product(
    windows.reshape(count * rows * columns, -1), kernel.reshape(-1, features)
  )
  return y.reshape(count, rows, columns, features)


@jax.custom_vjp
def _product(x, kernel):
  """x @ kernel, for many rows and few columns."""
  return x @ kernel


def _product_backward(inputs, dy):
  x, kernel = inputs
  # XLA takes twice as long for x.T @ dy, and would make it of the transposed.
  dkernel = jax.lax.optimization_barrier(dy.T @ x).T
  return dy @ kernel.T, dkernel


_product.defvjp(lambda *inputs: (_product(*inputs), inputs), _product_backward)


def _keep_last(x, axes):
  """Transposes all axes but the last."""
  if x.dtype == jnp.uint8 and x.shape[-1] == 4:
    # As one word: four bytes one by one would take three times as long.
    words = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(words.transpose(axes), jnp.uint8)
  return x.transpose(*axes, len(axes))


class ImageTooSmallError(ValueError):
  """A convolution's filter is larger than the image."""


class Convolution(nn.Module):
  """A VALID convolution, [N, H, W, C] -> [N, H', W', features].

  Attributes:
    features: F.
    size: pixels.
    stride: pixels.
    channels_first: the input is [N, C, H, W].
  """

  features: int
  size: int
  stride: int
  channels_first: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.channels_first:
      channels, *image = x.shape[1:]
    else:
      *image, channels = x.shape[1:]
    if min(image) < self.size:
      raise ImageTooSmallError(
        f'a layer of {self.size}x{self.size} filters meets '
        f'{image[0]}x{image[1]} pixels'
      )
    init = _uniform(self.size**2 * channels)
    shape = (self.size, self.size, channels, self.features)
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', init, (self.features,))
    # Elsewhere the device's library has forms of its own.
    if self.size % self.stride == 0 and jax.default_backend() == 'cpu':
      y = strided_convolution(
        x, kernel, self.stride, channels_first=self.channels_first
      )
    else:
      layout = 'NCHW' if self.channels_first else 'NHWC'
      y = jax.lax.conv_general_dilated(
        _as_floats(x),
        kernel,
        (self.stride, self.stride),
        'VALID',
        dimension_numbers=(layout, 'HWIO', 'NHWC'),
      )
    return y + bias.reshape(1, 1, 1, -1)


def _as_floats(obs: jax.Array) -> jax.Array:
  if obs.dtype == jnp.uint8:
    return obs.astype(jnp.float32) / 255
  return obs.astype(jnp.float32)


def _calling(torso, keep):
  """How a torso calls its layers."""
  if keep:
    return functools.partial(forward_cache.call, torso)
  return lambda layer, x: layer(x)


class NipsTorso(nn.Module):
  """The small network of the paper's figures: conv 16, conv 32, linear 256.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 8, after Mnih et al. 2013.

  Attributes:
    stacked_first: observations are [..., C, H, W] and not [..., H, W, C].
    scale: of observations; None divides bytes by 255, and floats by nothing.
  """

  stacked_first: bool = False
  scale: Scale | None = None

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = _calling(self, keep)
    x = _scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = nn.relu(call(Convolution(16, 8, 4, self.stacked_first), x))
    x = nn.relu(call(Convolution(32, 4, 2), x))
    x = nn.relu(call(Linear(256), x.reshape(len(x), -1)))
    return x.reshape(*obs.shape[:-3], -1)


class NatureTorso(nn.Module):
  """The network of the paper's tables: conv 32, 64, 64, linear 512.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 5.1, after Mnih et al.
  2015.

  Attributes:
    stacked_first: observations are [..., C, H, W] and not [..., H, W, C].
    scale: of observations; None divides bytes by 255, and floats by nothing.
  """

  stacked_first: bool = False
  scale: Scale | None = None

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = _calling(self, keep)
    x = _scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = nn.relu(call(Convolution(32, 8, 4, self.stacked_first), x))
    x = nn.relu(call(Convolution(64, 4, 2), x))
    x = nn.relu(call(Convolution(64, 3, 1), x))
    x = nn.relu(call(Linear(512), x.reshape(len(x), -1)))
    return x.reshape(*obs.shape[:-3], -1)


class MLPTorso(nn.Module):
  """Linear layers with ReLU over flattened observations.

  Attributes:
    obs_dims: axes of one observation.
    hidden: units of each layer.
    scale: of observations; None divides bytes by 255, and floats by nothing.
  """

  obs_dims: int = 1
  hidden: Sequence[int] = (64, 64)
  scale: Scale | None = None

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = _calling(self, keep)
    lead = obs.shape[: obs.ndim - self.obs_dims]
    x = _as_floats(_scaled(obs, self.scale)).reshape(math.prod(lead), -1)
    for units in self.hidden:
      x = nn.relu(call(Linear(units), x))
    return x.reshape(*lead, -1)


class LinearConvTorso(nn.Module):
  """Two convolutions without any non-linearity: conv 16, conv 32.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 9, for continuous control
  from pixels; it gives no sizes, so these are those of `NipsTorso`.

  Attributes:
    stacked_first: observations are [..., C, H, W] and not [..., H, W, C].
    scale: of observations; None divides bytes by 255, and floats by nothing.
  """

  stacked_first: bool = False
  scale: Scale | None = None

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = _calling(self, keep)
    x = _scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = call(Convolution(16, 8, 4, self.stacked_first), x)
    x = call(Convolution(32, 4, 2), x)
    return x.reshape(*obs.shape[:-3], -1)


class LSTMCore(nn.Module):
  """An LSTM over time that forgets at the start of an episode.

  Attributes:
    cells: number of cells.
  """

  cells: int = 256

  def initial_state(self, streams: int) -> base.State:
    """Zeros: a pair of [streams, cells]."""
    zeros = jnp.zeros((streams, self.cells), jnp.float32)
    return zeros, zeros

  @nn.compact
  def __call__(
    self, x: jax.Array, state: base.State, is_first: jax.Array
  ) -> tuple[jax.Array, base.State]:
    """Runs over [T, K, F] from `state`; `is_first` [T, K] zeroes the state."""
    # All gates in one product, and what comes from x for all steps at once;
    # flax's cell would join its kernels, 2 MB of them, again in every step.
    init = _uniform(self.cells)
    from_x = nn.Dense(4 * self.cells, kernel_init=init, bias_init=init)(x)
    kernel = self.param('kernel', init, (self.cells, 4 * self.cells))

    def step(state, inputs):
      from_x, is_first = inputs
      memory, output = jax.tree.map(
        lambda kept: jnp.where(is_first[:, None], 0.0, kept), state
      )
      gates = from_x + output @ kernel
      admit, keep, candidate, release = jnp.split(gates, 4, axis=1)
      memory = nn.sigmoid(keep) * memory + nn.sigmoid(admit) * nn.tanh(
        candidate
      )
      output = nn.sigmoid(release) * nn.tanh(memory)
      return (memory, output), output

    state, x = jax.lax.scan(step, state, (from_x, is_first))
    return x, state


def _features(torso, obs):
  """What a torso of ours computes may be kept; of others nothing is known."""
  if type(torso) in (NipsTorso, NatureTorso, MLPTorso, LinearConvTorso):
    return torso(obs, keep=True)
  return torso(obs)


class QNetwork(nn.Module):
  """A torso and one linear output per action: [..., *shape] -> [..., A]."""

  torso: nn.Module
  num_actions: int

  @nn.compact
  def __call__(self, obs: jax.Array) -> jax.Array:
    return Linear(self.num_actions)(_features(self.torso, obs))


class PolicyAndValue(NamedTuple):
  """Output of an actor-critic network."""

  logits: jax.Array  # [T, K, A]
  v: jax.Array  # [T, K]


class ActorCritic(nn.Module):
  """A torso, an optional LSTM core, and a policy and a value head on it.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 4: the two share all
  layers but the last.

  Attributes:
    torso: maps observations to features.
    num_actions: A.
    core: recurrent core between torso and heads, or None.
  """

  torso: nn.Module
  num_actions: int
  core: LSTMCore | None = None

  def initial_state(self, streams: int) -> base.State:
    """State at the start of an episode, () without a core."""
    return self.core.initial_state(streams) if self.core else ()

  @nn.compact
  def __call__(
    self, obs: jax.Array, state: base.State, is_first: jax.Array
  ) -> tuple[PolicyAndValue, base.State]:
    """Runs over obs [T, K, ...] from `state`; `is_first` is [T, K] bool."""
    x = _features(self.torso, obs)
    if self.core:
      x, state = self.core(x, state, is_first)
    logits = Linear(self.num_actions)(x)
    return PolicyAndValue(logits=logits, v=Linear(1)(x)[..., 0]), state


class GaussianAndValue(NamedTuple):
  """Output of an actor-critic network for continuous actions."""

  mean: jax.Array  # [T, K, D], μ
  variance: jax.Array  # [T, K], σ² of each of the D dimensions
  v: jax.Array  # [T, K]


class GaussianActorCritic(nn.Module):
  """A spherical Gaussian policy and a value, which share nothing.

      μ = linear(x),    σ² = softplus(linear(x)) = log(1 + exp(linear(x)))

  Source: Mnih et al. 2016, arXiv:1602.01783, section 9.

  Attributes:
    policy_torso: maps observations to features x of the policy.
    value_torso: another one, for the value.
    dimensions: D, of an action.
    policy_core: recurrent core between torso and policy, or None.
    value_core: another one, for the value; None if the policy has none.
  """

  policy_torso: nn.Module
  value_torso: nn.Module
  dimensions: int
  policy_core: LSTMCore | None = None
  value_core: LSTMCore | None = None

  def initial_state(self, streams: int) -> base.State:
    """States of policy and value at the start of an episode; () without."""
    if not self.policy_core:
      return ()
    return tuple(
      core.initial_state(streams)
      for core in (self.policy_core, self.value_core)
    )

  @nn.compact
  def __call__(
    self, obs: jax.Array, state: base.State, is_first: jax.Array
  ) -> tuple[GaussianAndValue, base.State]:
    """Runs over obs [T, K, ...] from `state`; `is_first` is [T, K] bool."""
    x = _features(self.policy_torso, obs)
    y = _features(self.value_torso, obs)
    if self.policy_core:
      policy_state, value_state = state
      x, policy_state = self.policy_core(x, policy_state, is_first)
      y, value_state = self.value_core(y, value_state, is_first)
      state = (policy_state, value_state)
    mean = Linear(self.dimensions)(x)
    variance = nn.softplus(Linear(1)(x)[..., 0])
    return GaussianAndValue(mean, variance, Linear(1)(y)[..., 0]), state
