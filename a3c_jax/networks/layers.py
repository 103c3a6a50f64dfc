"""The linear layer, initial weights, and scales of observations."""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from a3c_jax.core import types
from a3c_jax.networks import forward_cache


def uniform(fan_in: int) -> nn.initializers.Initializer:
  """Returns the initializer U(-1/√fan_in, 1/√fan_in), Torch's default."""
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def scale_torso_kernels(params: types.Params, gain: float) -> types.Params:
  """Returns params with the kernels of torsos multiplied; not the biases."""

  def scale(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return leaf * gain if re.search('torso/(.*/)?kernel$', name) else leaf

  trained = jax.tree_util.tree_map_with_path(scale, types.trained(params))
  return types.with_trained(params, trained)


class Scale(NamedTuple):
  """The scale of observations x: (x - offset) / span.

  Each is one number, or nested tuples with the shape of an observation.
  """

  offset: float | tuple
  span: float | tuple


_WIDEST = 1e6  # Wider bounds are those of a type, or mean nothing.


def scale_between(
  low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> Scale | None:
  """Returns the scale that maps bounds to [0, 1] or [-1, 1].

  A number with finite bounds is mapped to [0, 1], or to [-1, 1] if its lower
  bound is negative. A number stays as it is if a bound is infinite, if both
  are equal, or if they are more than 1e6 apart.

  Args:
    low: [...] lower bounds, as of `gymnasium.spaces.Box`.
    high: [...] upper bounds.
    dtype: of observations.

  Returns:
    None if torsos need no scale: for bytes from 0 to 255, which they divide by
    255 without one, and for observations that stay as they are.
  """
  low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
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
  """Returns tuples, which modules can hash; one number if all are equal."""
  if (values == values.flat[0]).all():
    return float(values.flat[0])

  def tuples(numbers):
    return tuple(map(tuples, numbers)) if isinstance(numbers, list) else numbers

  return tuples(values.tolist())


def scaled(obs: jax.Array, scale: Scale | None) -> jax.Array:
  """Returns observations [..., *shape], as float32 if there is a scale."""
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
    init = uniform(x.shape[-1])
    return nn.Dense(self.features, kernel_init=init, bias_init=init)(x)


NORMS = ('none', 'layer')


def activation(
  norm: str, *, rectified: bool = True
) -> Callable[[jax.Array], jax.Array]:
  """Returns what follows a layer, [N, ..., F] -> the same; within a module.

      y = (x - mean(x)) / √(var(x) + 1e-6) · scale + bias

  is layer normalisation. Mean and variance are those of the F numbers: of each
  pixel's channels, in images. Scale [F] is 1 and bias [F] is 0 at first.
  Source: Ba et al. 2016, arXiv:1607.06450, equation 4; before each ReLU as in
  Gallici et al. 2024, arXiv:2407.04811 (PQN).

  Args:
    norm: 'none', or 'layer' for layer normalisation.
    rectified: whether the ReLU follows.
  """
  if norm not in NORMS:
    raise ValueError(f'norm={norm!r}: allowed: {", ".join(NORMS)}')
  normalize = nn.LayerNorm() if norm == 'layer' else lambda x: x
  return lambda x: nn.relu(normalize(x)) if rectified else normalize(x)


def scale_gradient(x: jax.Array, factor: float) -> jax.Array:
  """Returns x, of which the gradient is multiplied by a factor."""
  same: Any = _scale_gradient(x, factor)
  return same


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scale_gradient(x, factor):
  del factor
  return x


_scale_gradient.defvjp(
  lambda x, factor: (x, None), lambda factor, _, dy: (dy * factor,)
)


def as_floats(obs: jax.Array) -> jax.Array:
  """Returns float32; bytes are divided by 255."""
  if obs.dtype == jnp.uint8:
    return obs.astype(jnp.float32) / 255
  return obs.astype(jnp.float32)


class Moments(NamedTuple):
  """Mean and deviation of images, as `as_floats` gives them."""

  mean: jax.typing.ArrayLike  # [*shape], of each pixel
  deviation: jax.typing.ArrayLike  # [], root of the mean variance of pixels


# Flax's collection of `Moments`, which has no gradient.
MOMENTS = 'image_moments'
_FARTHEST = 10.0  # Deviations from the mean.


def normalized(images: jax.Array, moments: Moments | None) -> jax.Array:
  """Returns images [..., *shape] as float32, normalised if there are moments.

      (x - mean) / deviation, clipped to [-10, 10]

  Source: Burda et al. 2018, arXiv:1810.12894, section 2.4, where each pixel has
  a deviation of its own and the clip is 5. One deviation for all leaves an
  object the same wherever it is.
  """
  images = as_floats(images)
  if moments is None:
    return images
  mean = jnp.expand_dims(
    moments.mean, range(images.ndim - jnp.ndim(moments.mean))
  )
  images = (images - mean) * (1 / moments.deviation)
  return jnp.clip(images, -_FARTHEST, _FARTHEST)


def calling(torso, keep):
  """Returns the function by which a torso calls its layers."""
  if keep:
    return functools.partial(forward_cache.call, torso)
  return lambda layer, x: layer(x)
