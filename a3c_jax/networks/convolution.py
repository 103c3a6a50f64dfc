"""Convolutions in forms that are fast on one core."""

from __future__ import annotations

from collections.abc import Callable
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from a3c_jax.networks import dead_units, layers


def strided_convolution(
  x: jax.Array,
  kernel: jax.Array,
  stride: int,
  *,
  channels_first: bool = False,
  activate: Callable[[jax.Array], jax.Array] = lambda x: x,
  moments: layers.Moments | None = None,
) -> jax.Array:
  """Returns a VALID convolution, in the forms that are fastest on the CPU.

  Equals `jax.lax.conv_general_dilated` with that stride, whose gradient of the
  kernel is slow. For segments of 5 steps these forms halve the time of the
  gradient of the small Atari network's second layer. They save a fifth of the
  first layer's.

  Args:
    x: [N, H, W, C], or [N, C, H, W] if channels first; float32, or uint8, which
      is divided by 255.
    kernel: [size, size, C, F], size a multiple of the stride.
    stride: pixels.
    channels_first: the layout of x.
    activate: what is convolved of x, [N, H, W, C] -> the same shape; it treats
      each image alone.
    moments: normalise x before, by `layers.normalized`.

  Returns:
    [N, H', W', F], H' = (H - size) // stride + 1.
  """
  # The intermediate arrays of a piece fit the cache: those of blocks are large.
  # More than 16 pieces would compile slowly.
  length = max(8, math.ceil(len(x) / 16))
  if channels_first or x.dtype == jnp.uint8:
    size = kernel.shape[0]
    in_blocks = functools.partial(
      _in_blocks, size=size, stride=stride, channels_first=channels_first
    )
    if moments:
      moments = moments._replace(mean=_computed_once(in_blocks, moments))
    convolve = functools.partial(
      _over_blocks,
      in_blocks=in_blocks,
      channels_first=channels_first,
      moments=moments,
    )
    if len(x) <= 16:
      length = 4
  else:
    convolve = functools.partial(_over_windows, moments=moments)
  sizes = [
    min(length, len(x) - first) for first in range(0, max(len(x), 1), length)
  ]
  # The gradient of a split joins its pieces; that of slices adds up as many
  # arrays. Each piece has its activation, because XLA is slow to compute
  # anything of joined pieces while it joins them.
  pieces = [
    convolve(activate(piece), kernel, stride)
    for piece in jax.lax.split(x, sizes)
  ]
  return jnp.concatenate(pieces)


def _in_blocks(x, *, size, stride, channels_first):
  """Returns images as [N, rows, columns, stride² · C], a block in each pixel.

  Neighbours in memory stay neighbours: that is faster.
  """
  if channels_first:
    _, channels, height, width = x.shape
  else:
    _, height, width, channels = x.shape
  rows, columns = (
    (length - size) // stride + size // stride for length in (height, width)
  )
  if channels_first:
    x = x[:, :, : rows * stride, : columns * stride]
    x = x.reshape(-1, channels, rows, stride, columns, stride)
    x = _keep_last(x, (0, 2, 4, 1, 3))
  else:
    x = x[:, : rows * stride, : columns * stride]
    x = x.reshape(-1, rows, stride, columns, stride, channels)
    x = _keep_last(x, (0, 1, 3, 2, 4))
  return x.reshape(-1, rows, columns, stride**2 * channels)


def _computed_once(in_blocks, moments):
  """Returns the mean of images in blocks, for all images.

  XLA would transpose it for each image again, an optimization barrier or not.
  But it computes a branch once.
  """
  mean = jnp.asarray(moments.mean)[None]
  return jax.lax.cond(
    moments.deviation > 0,
    in_blocks,
    lambda x: jnp.zeros_like(in_blocks(x)),
    mean,
  )


def _over_blocks(x, kernel, stride, *, in_blocks, channels_first, moments):
  """Convolves with stride 1 over blocks of stride² pixels."""
  size, _, channels, features = kernel.shape
  blocks = size // stride
  kernel = kernel.reshape(blocks, stride, blocks, stride, channels, features)
  axes = (0, 2, 4, 1, 3, 5) if channels_first else (0, 2, 1, 3, 4, 5)
  return jax.lax.conv_general_dilated(
    layers.normalized(in_blocks(x), moments),
    kernel.transpose(axes).reshape(blocks, blocks, -1, features),
    (1, 1),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _over_windows(x, kernel, stride, *, moments):
  """Multiplies all windows of the images by the kernel, 8 in one product."""
  if moments:
    x = layers.normalized(x, moments)
  count, height, width, channels = x.shape
  size, _, _, features = kernel.shape
  rows = (height - size) // stride + 1
  columns = (width - size) // stride + 1
  blocks = size // stride
  x = x[:, :, : (columns - 1 + blocks) * stride]
  # `stride` neighbouring pixels of a row are contiguous in memory.
  x = x.reshape(count, height, -1, stride * channels)
  kernel = kernel.reshape(-1, blocks * stride * channels, features)
  # XLA joins at most 8 arrays while it computes them. More become as many
  # operations, half of which it gives to the one thread of its pool.
  together = max(1, 8 // blocks)
  products = []
  for first in range(0, size, together):
    windows = jnp.stack(
      [
        x[:, row : row + (rows - 1) * stride + 1 : stride, column:][
          :, :, :columns
        ]
        for row in range(first, min(first + together, size))
        for column in range(blocks)
      ],
      axis=3,
    )
    products.append(
      _product(
        windows.reshape(count * rows * columns, -1),
        kernel[first : first + together].reshape(-1, features),
      )
    )
  y = functools.reduce(jnp.add, products)
  return y.reshape(count, rows, columns, features)


@jax.custom_vjp
def _plus_bias(y, bias):
  """Returns y [..., F] + bias [F]."""
  return y + bias.reshape(*[1] * (y.ndim - 1), -1)


def _plus_bias_backward(_, dy):
  if jax.__version_info__ < (0, 11) or jax.default_backend() != 'cpu':
    return dy, jnp.sum(dy, axis=tuple(range(dy.ndim - 1)))
  # From that version on, XLA would compute dy again within a loop of sums, but
  # not within a product. A GPU may round what it multiplies.
  rows = dy.reshape(-1, dy.shape[-1])
  return dy, jnp.ones(len(rows), rows.dtype) @ rows


_plus_bias.defvjp(
  lambda *inputs: (_plus_bias(*inputs), None), _plus_bias_backward
)


@jax.custom_vjp
def _product(x, kernel):
  """Returns x @ kernel, for many rows and few columns."""
  return x @ kernel


def _product_backward(inputs, dy):
  x, kernel = inputs
  # x.T @ dy takes twice as long, and without the barrier XLA computes that.
  dkernel = jax.lax.optimization_barrier(dy.T @ x).T
  return dy @ kernel.T, dkernel


_product.defvjp(lambda *inputs: (_product(*inputs), inputs), _product_backward)


def _keep_last(x, axes):
  """Transposes all axes but the last."""
  if x.dtype == jnp.uint8 and x.shape[-1] == 4:
    # As one word: moving four bytes one by one takes three times as long.
    words = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.lax.bitcast_convert_type(words.transpose(axes), jnp.uint8)
  return x.transpose(*axes, len(axes))


class ImageTooSmallError(ValueError):
  """A convolution's filter is larger than the image."""


class Convolution(nn.Module):
  """A VALID convolution, [N, H, W, C] -> [N, H', W', features].

  Attributes:
    features: F.
    size: of the square filter, in pixels.
    stride: in pixels.
    channels_first: whether the input is [N, C, H, W].
    rectified: whether it convolves the ReLU of its input.
    norm: of its input, one of `layers.NORMS`, before the ReLU.
    normalized: whether its input are images that `layers.normalized`
      normalises, by variables of the collection `layers.MOMENTS`: mean 0 and
      deviation 1 at first, which leave them as they are.
  """

  features: int
  size: int
  stride: int
  channels_first: bool = False
  rectified: bool = False
  norm: str = 'none'
  normalized: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    moments = None
    if self.normalized:
      known = lambda name, of: self.variable(layers.MOMENTS, name, of).value
      moments = layers.Moments(
        mean=known('mean', lambda: jnp.zeros(x.shape[1:])),
        deviation=known('deviation', lambda: jnp.ones(())),
      )
    if self.channels_first:
      channels, *image = x.shape[1:]
    else:
      *image, channels = x.shape[1:]
    if min(image) < self.size:
      raise ImageTooSmallError(
        f'a layer of {self.size}x{self.size} filters meets '
        f'{image[0]}x{image[1]} pixels'
      )
    activate = layers.activation(self.norm, rectified=self.rectified)
    if self.rectified:
      dead_units.watch(self, 'input', x, activate)
    init = layers.uniform(self.size**2 * channels)
    shape = (self.size, self.size, channels, self.features)
    kernel = self.param('kernel', init, shape)
    bias = self.param('bias', init, (self.features,))
    # Other devices have fast forms in their own library.
    if self.size % self.stride == 0 and jax.default_backend() == 'cpu':
      y = strided_convolution(
        x,
        kernel,
        self.stride,
        channels_first=self.channels_first,
        activate=activate,
        moments=moments,
      )
    else:
      layout = 'NCHW' if self.channels_first else 'NHWC'
      y = jax.lax.conv_general_dilated(
        layers.normalized(activate(x), moments),
        kernel,
        (self.stride, self.stride),
        'VALID',
        dimension_numbers=(layout, 'HWIO', 'NHWC'),
      )
    return _plus_bias(y, bias)
