"""Torsos: they map observations to features."""

from __future__ import annotations

from collections.abc import Sequence
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.networks import convolution, dead_units, layers


class _ImageTorso(nn.Module):
  """Base of the torsos of images, which must have three axes.

  Attributes:
    stacked_first: whether observations are [..., C, H, W], not [..., H, W, C].
    scale: of observations; None divides bytes by 255 and leaves floats.
    norm: of what each layer gives, before its ReLU: 'none' or 'layer', as for
      `layers.activation`.
    normalized: whether the first layer normalises images, as
      `convolution.Convolution` says.
  """

  stacked_first: bool = False
  scale: layers.Scale | None = None
  norm: str = 'none'
  normalized: bool = False


def _first(torso, features):
  """Returns the first layer, of 8x8 filters with stride 4."""
  return convolution.Convolution(
    features, 8, 4, torso.stacked_first, normalized=torso.normalized
  )


def _hidden(torso, x, units, call, streams):
  """Returns features [N, streams · units].

  Args:
    torso: in its `__call__`.
    x: [N, H, W, C], of the last convolution, before its activation.
    units: of the linear layer of each stream.
    call: `layers.calling` of the torso.
    streams: how many linear layers.
  """
  x = layers.activation(torso.norm)(x)
  dead_units.watch(torso, 'filters', x)
  x = x.reshape(len(x), -1)
  if streams > 1:
    x = layers.scale_gradient(x, 1 / math.sqrt(streams))
  y = [
    layers.activation(torso.norm)(call(layers.Linear(units), x))
    for _ in range(streams)
  ]
  y = jnp.concatenate(y, axis=1) if streams > 1 else y[0]
  dead_units.watch(torso, 'hidden', y)
  return y


class NipsTorso(_ImageTorso):
  """The small network of the paper's figures: conv 16, conv 32, linear 256.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 8, after Mnih et al. 2013.

  With several streams, each has a linear layer of its own, and the gradient
  that enters the last convolution is divided by their root, as in
  `DuelingQNetwork`: [..., *shape] -> [..., streams · 256].
  """

  @nn.compact
  def __call__(
    self, obs: jax.Array, *, keep: bool = False, streams: int = 1
  ) -> jax.Array:
    call = layers.calling(self, keep)
    x = layers.scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = call(_first(self, 16), x)
    x = call(
      convolution.Convolution(32, 4, 2, rectified=True, norm=self.norm), x
    )
    x = _hidden(self, x, 256, call, streams)
    return x.reshape(*obs.shape[:-3], -1)


class NatureTorso(_ImageTorso):
  """The network of the paper's tables: conv 32, 64, 64, linear 512.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 5.1, after Mnih et al.
  2015.

  With several streams, each has a linear layer of its own, and the gradient
  that enters the last convolution is divided by their root, as in
  `DuelingQNetwork`: [..., *shape] -> [..., streams · 512].
  """

  @nn.compact
  def __call__(
    self, obs: jax.Array, *, keep: bool = False, streams: int = 1
  ) -> jax.Array:
    call = layers.calling(self, keep)
    x = layers.scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = call(_first(self, 32), x)
    x = call(
      convolution.Convolution(64, 4, 2, rectified=True, norm=self.norm), x
    )
    x = call(
      convolution.Convolution(64, 3, 1, rectified=True, norm=self.norm), x
    )
    x = _hidden(self, x, 512, call, streams)
    return x.reshape(*obs.shape[:-3], -1)


class MLPTorso(nn.Module):
  """Linear layers with ReLU over flattened observations.

  Attributes:
    obs_dims: axes of one observation.
    hidden: units of each layer.
    scale: of observations; None divides bytes by 255 and leaves floats.
    norm: of what each layer gives, before its ReLU: 'none' or 'layer', as for
      `layers.activation`.
  """

  obs_dims: int = 1
  hidden: Sequence[int] = (64, 64)
  scale: layers.Scale | None = None
  norm: str = 'none'

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = layers.calling(self, keep)
    lead = obs.shape[: obs.ndim - self.obs_dims]
    x = layers.as_floats(layers.scaled(obs, self.scale)).reshape(
      math.prod(lead), -1
    )
    for number, units in enumerate(self.hidden):
      x = layers.activation(self.norm)(call(layers.Linear(units), x))
      dead_units.watch(self, f'hidden_{number:02}', x)
    return x.reshape(*lead, -1)


class LinearConvTorso(_ImageTorso):
  """Two convolutions without a non-linearity: conv 16, conv 32.

  Source: Mnih et al. 2016, arXiv:1602.01783, section 9, for continuous control
  from pixels. The paper gives no sizes; these are those of `NipsTorso`.
  """

  @nn.compact
  def __call__(self, obs: jax.Array, *, keep: bool = False) -> jax.Array:
    call = layers.calling(self, keep)
    x = layers.scaled(obs, self.scale).reshape(-1, *obs.shape[-3:])
    x = call(_first(self, 16), x)
    x = call(convolution.Convolution(32, 4, 2, norm=self.norm), x)
    x = layers.activation(self.norm, rectified=False)(x)
    return x.reshape(*obs.shape[:-3], -1)
