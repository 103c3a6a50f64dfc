import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from a3c_jax import networks

KEY = jax.random.key(0)
FRAMES = np.zeros([1, 84, 84, 4], np.uint8)


def images(*shape, seed=0):
  return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def reference_convolution(x, kernel, stride):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


@pytest.mark.parametrize(
  ('height', 'width', 'channels', 'size', 'stride'),
  [
    (84, 84, 4, 8, 4),
    (210, 160, 3, 8, 4),  # 210 is no multiple of 4: two rows fall away.
    (87, 85, 1, 8, 4),
    (9, 11, 2, 4, 2),
    (8, 8, 2, 8, 4),  # One output.
    (7, 6, 2, 3, 1),
    (7, 10, 2, 3, 3),  # One block.
  ],
)
def test_strided_convolution(height, width, channels, size, stride):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, height, width, channels)).astype(np.float32)
  kernel = rng.normal(size=(size, size, channels, 5)).astype(np.float32)
  rows, columns = (height - size) // stride + 1, (width - size) // stride + 1
  cotangent = rng.normal(size=(2, rows, columns, 5)).astype(np.float32)

  def output_and_gradients(convolve):
    @jax.jit
    def compiled(x, kernel, cotangent):
      y, pull = jax.vjp(
        lambda x, kernel: convolve(x, kernel, stride), x, kernel
      )
      return y, *pull(cotangent)

    return compiled(x, kernel, cotangent)

  for found, expected, atol in zip(
    output_and_gradients(networks.strided_convolution),
    output_and_gradients(reference_convolution),
    (1e-4, 1e-3, 1e-3),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=atol)


@pytest.mark.parametrize('count', [1, 8, 9, 40])  # Pieces are of 8.
def test_rectified_convolution_of_pieces(count):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(count, 10, 9, 3)).astype(np.float32)
  x[:, 0] = 0.0  # Where ReLU has no derivative, its gradient is 0.
  kernel = rng.normal(size=(4, 4, 3, 5)).astype(np.float32)
  cotangent = rng.normal(size=(count, 4, 3, 5)).astype(np.float32)

  def output_and_gradients(convolve):
    y, pull = jax.vjp(convolve, x, kernel)
    return y, *pull(cotangent)

  found = output_and_gradients(
    lambda x, kernel: networks.strided_convolution(
      x, kernel, 2, activate=nn.relu
    )
  )
  expected = output_and_gradients(
    lambda x, kernel: reference_convolution(nn.relu(x), kernel, 2)
  )
  assert not np.any(found[1][x <= 0])
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('count', [4, 5, 16, 17])  # Pieces are of 4 or of 8.
def test_strided_convolution_of_pieces_of_pixels(count):
  x = images(count, 4, 12, 16)
  kernel = np.random.default_rng(1).normal(size=(8, 8, 4, 3))
  kernel = kernel.astype(np.float32)
  cotangent = np.random.default_rng(2).normal(size=(count, 2, 3, 3))
  cotangent = cotangent.astype(np.float32)

  def output_and_gradient(convolve):
    y, pull = jax.vjp(convolve, kernel)
    return y, *pull(cotangent)

  found = output_and_gradient(
    lambda kernel: networks.strided_convolution(
      x, kernel, 4, channels_first=True
    )
  )
  expected = output_and_gradient(
    lambda kernel: reference_convolution(
      np.moveaxis(x, 1, -1).astype(np.float32) / 255, kernel, 4
    )
  )
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize('channels_first', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_strided_convolution_of_pixels(channels_first, dtype):
  # Four bytes that lie together take another way through memory.
  pixels = np.random.default_rng(0).integers(0, 256, (2, 17, 14, 4))
  x = pixels.astype(np.uint8)
  if dtype == np.float32:
    x = x.astype(np.float32) / 255
  kernel = np.random.default_rng(1).normal(size=(8, 8, 4, 3))
  found = networks.strided_convolution(
    np.moveaxis(x, -1, 1) if channels_first else x,
    kernel.astype(np.float32),
    4,
    channels_first=channels_first,
  )
  expected = reference_convolution(pixels / 255, kernel, 4)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('rectified', [False, True])
def test_off_the_cpu_a_convolution_is_the_devices_own(monkeypatch, rectified):
  layer = networks.Convolution(4, size=4, stride=2, rectified=rectified)
  x = np.random.default_rng(0).normal(size=(2, 12, 10, 3)).astype(np.float32)
  params = layer.init(jax.random.key(0), x)
  expected = layer.apply(params, x)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.delattr(networks, 'strided_convolution')
  np.testing.assert_allclose(layer.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize(('size', 'stride'), [(3, 2), (5, 3), (2, 4), (4, 2)])
@pytest.mark.parametrize('channels_first', [False, True])
def test_convolution_of_any_size_and_stride(size, stride, channels_first):
  x = images(2, 11, 13, 4)
  layer = networks.Convolution(3, size, stride, channels_first)
  given = np.moveaxis(x, -1, 1) if channels_first else x
  found, params = layer.init_with_output(KEY, given)
  kernel = params['params']['kernel']
  expected = reference_convolution(x.astype(np.float32) / 255, kernel, stride)
  bias = params['params']['bias'][None, None, None]
  np.testing.assert_allclose(found, expected + bias, atol=1e-5)


@pytest.mark.parametrize(('size', 'stride'), [(8, 4), (3, 2)])
@pytest.mark.parametrize('channels_first', [False, True])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_convolution_of_normalised_images(size, stride, channels_first, dtype):
  x = images(3, 12, 17, 4)
  mean = images(12, 17, 4, seed=1).astype(np.float32) / 255
  deviation = np.float32(0.05)  # So that 10 deviations are half of the range.
  numbers = np.clip((x / np.float32(255) - mean) / deviation, -10, 10)
  assert (np.abs(numbers) == 10).any() and (np.abs(numbers) < 10).any()
  layer = networks.Convolution(5, size, stride, channels_first, normalized=True)
  given = x if dtype == np.uint8 else x.astype(np.float32) / 255
  if channels_first:
    given, mean = np.moveaxis(given, -1, 1), np.moveaxis(mean, -1, 0)
  variables = layer.init(KEY, given)
  params = variables['params']
  # At first images stay as they are.
  plain = networks.Convolution(5, size, stride, channels_first)
  np.testing.assert_allclose(
    layer.apply(variables, given),
    plain.apply({'params': params}, given),
    atol=1e-6,
  )
  moments = {'mean': mean, 'deviation': deviation}

  def ours(params):
    return layer.apply({'params': params, 'image_moments': moments}, given)

  def reference(params):
    y = reference_convolution(numbers, params['kernel'], stride)
    return y + params['bias'][None, None, None]

  np.testing.assert_allclose(ours(params), reference(params), atol=1e-4)
  found = jax.grad(lambda params: jnp.sum(ours(params) ** 2))(params)
  expected = jax.grad(lambda params: jnp.sum(reference(params) ** 2))(params)
  for name in ('kernel', 'bias'):
    np.testing.assert_allclose(
      found[name], expected[name], rtol=1e-4, atol=2e-2
    )


@pytest.mark.parametrize(
  'make', [networks.NipsTorso, networks.NatureTorso, networks.LinearConvTorso]
)
def test_torsos_of_images_normalise_them_once(make):
  obs = images(2, 84, 84, 4)
  torso = make(normalized=True)
  variables = jax.jit(torso.init)(KEY, obs)
  (moments,) = variables['image_moments'].values()  # Of the first layer.
  assert moments['mean'].shape == (84, 84, 4)
  moments = {'mean': jnp.full((84, 84, 4), 0.5), 'deviation': jnp.array(0.5)}
  found = torso.apply(
    variables | {'image_moments': {'Convolution_0': moments}}, obs
  )
  # A plain torso that gets the numbers themselves.
  expected = make().apply(
    {'params': variables['params']}, (obs.astype(np.float32) / 255 - 0.5) / 0.5
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert 'image_moments' not in make().init(KEY, obs)


def test_convolution_adds_a_bias_per_feature():
  layer = networks.Convolution(2, size=2, stride=1)
  x = np.zeros([1, 3, 3, 1], np.float32)
  params = jax.tree.map(jnp.zeros_like, layer.init(KEY, x))
  params['params']['bias'] = jnp.array([1.0, 2.0])
  expected = np.broadcast_to([1.0, 2.0], [1, 2, 2, 2])
  np.testing.assert_array_equal(layer.apply(params, x), expected)


def test_layer_norm_by_hand():
  # Mean 2 and variance 1 of what the layer gives, 1 and 3: -1 and 1. Then scale
  # 2 and bias 1: -1 and 3, of which the ReLU is 0 and 3.
  torso = networks.MLPTorso(hidden=(2,), norm='layer')
  params = torso.init(KEY, np.zeros((1, 1), np.float32))
  params = jax.tree.map(np.array, params)
  layer = params['params']['Linear_0']['Dense_0']
  layer['kernel'][:], layer['bias'][:] = [[1, 3]], 0
  norm = params['params']['LayerNorm_0']
  norm['scale'][:], norm['bias'][:] = 2, 1
  found = torso.apply(params, np.ones((1, 1), np.float32))
  np.testing.assert_allclose(found, [[0, 3]], atol=1e-5)


def plain_torso(torso, params, obs):
  """What a torso with norm gives, by flax's own layers in one piece."""
  sizes = {
    networks.NipsTorso: [(8, 4), (4, 2)],
    networks.NatureTorso: [(8, 4), (4, 2), (3, 1)],
    networks.LinearConvTorso: [(8, 4), (4, 2)],
    networks.MLPTorso: [],
  }[type(torso)]
  layers, x = params['params'], obs.reshape(-1, *obs.shape[-3:]) / 255.0
  activate = nn.relu
  if isinstance(torso, networks.LinearConvTorso):
    activate = lambda x: x

  def normalize(x, norm):
    return activate(nn.LayerNorm(use_fast_variance=False).apply(norm, x))

  # A convolution has the norm of its input; the last layers' are the torso's.
  pending = None
  for number, (_, stride) in enumerate(sizes):
    layer = layers[f'Convolution_{number}']
    assert ('LayerNorm_0' in layer) == (number > 0)
    if pending is not None:
      x = normalize(pending, {'params': layer['LayerNorm_0']})
    pending = reference_convolution(x, layer['kernel'], stride) + layer['bias']
  norms = iter(sorted(name for name in layers if name.startswith('LayerNorm')))
  if pending is not None:
    x = normalize(pending, {'params': layers[next(norms)]})
  if not isinstance(torso, networks.LinearConvTorso):
    x = x.reshape(len(x), -1)
    for name in sorted(name for name in layers if name.startswith('Linear')):
      dense = layers[name]['Dense_0']
      x = x @ dense['kernel'] + dense['bias']
      x = normalize(x, {'params': layers[next(norms)]})
  assert next(norms, None) is None
  return x.reshape(*obs.shape[:-3], -1)


@pytest.mark.parametrize(
  'torso',
  [
    networks.NipsTorso(norm='layer'),
    networks.NatureTorso(norm='layer'),
    networks.LinearConvTorso(norm='layer'),
    networks.MLPTorso(obs_dims=3, hidden=(8, 6), norm='layer'),
  ],
  ids=lambda torso: type(torso).__name__,
)
def test_norm_of_each_layer_of_a_torso(torso):
  obs = images(3, 3, 44, 36, 2)
  params = jax.jit(torso.init)(KEY, obs[:1])
  # Scales and biases that are not 1 and 0.
  keys = iter(jax.random.split(KEY, 64))
  params = jax.tree.map(
    lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params
  )

  def output_and_gradient(apply):
    @jax.jit
    def compute(params):
      y, pull = jax.vjp(apply, params)
      return y, *pull(jnp.cos(y))

    with jax.numpy_rank_promotion('allow'):  # For plain_torso.
      return compute(params)

  found = output_and_gradient(lambda params: torso.apply(params, obs))
  expected = output_and_gradient(lambda params: plain_torso(torso, params, obs))
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(
      one, other, rtol=2e-3, atol=2e-3
    ),
    found,
    expected,
  )


def test_a_torso_knows_its_norms():
  with pytest.raises(ValueError, match="norm='batch': allowed: none, layer"):
    networks.NipsTorso(norm='batch').init(KEY, FRAMES)


def test_images_too_small_for_the_filters():
  with pytest.raises(networks.ImageTooSmallError, match='8x8 .* 5x84 '):
    networks.NipsTorso().init(KEY, np.zeros([1, 5, 84, 4], np.uint8))


def test_nips_parameters():
  # 8·8·4·16 + 16 = 4,112 and 4·4·16·32 + 32 = 8,224; 84 → 20 → 9 pixels, so
  # 9·9·32·256 + 256 = 663,808: together 676,144.
  shapes = jax.eval_shape(networks.NipsTorso().init, KEY, FRAMES)
  assert count(shapes) == 676_144


def test_nature_parameters():
  # 8·8·4·32 + 32 = 8,224, 4·4·32·64 + 64 = 32,832, 3·3·64·64 + 64 = 36,928;
  # 84 → 20 → 9 → 7 pixels, so 7·7·64·512 + 512 = 1,606,144: together 1,684,128.
  shapes = jax.eval_shape(networks.NatureTorso().init, KEY, FRAMES)
  assert count(shapes) == 1_684_128


@pytest.mark.parametrize(
  ('torso', 'features'),
  [(networks.NipsTorso(), 256), (networks.NatureTorso(), 512)],
)
@pytest.mark.parametrize('lead', [(), (3,), (5, 2)])
def test_torsos_keep_the_leading_axes(torso, features, lead):
  obs = jax.ShapeDtypeStruct((*lead, 84, 84, 4), jnp.uint8)
  found, _ = jax.eval_shape(torso.init_with_output, KEY, obs)
  assert found.shape == (*lead, features)
  assert found.dtype == jnp.float32


@pytest.mark.parametrize('make', [networks.NipsTorso, networks.NatureTorso])
def test_torso_on_stacked_bytes_and_floats(make):
  obs = images(2, 3, 44, 40, 4)
  torso = make()
  params = jax.jit(torso.init)(KEY, obs)
  apply = jax.jit(torso.apply)
  found = apply(params, obs)
  assert np.all(found >= 0)  # ReLU comes last.
  assert np.std(found) > 0
  # Bytes count as 0 to 1.
  floats = apply(params, obs.astype(np.float32) / 255)
  np.testing.assert_allclose(found, floats, atol=1e-5)
  # The frames may come first, and then it is the same network.
  stacked_first = make(stacked_first=True)
  first = jax.jit(stacked_first.apply)(params, np.moveaxis(obs, -1, -3))
  np.testing.assert_allclose(found, first, atol=1e-5)
  # Each image counts for its own features only.
  obs[1, 0] //= 2
  changed = np.any(apply(params, obs) != found, axis=-1)
  np.testing.assert_array_equal(changed, [[0, 0, 0], [1, 0, 0]])


def test_nips_torso_is_two_convolutions_and_a_linear_layer():
  obs = images(2, 36, 36, 4)
  torso = networks.NipsTorso()
  params = jax.jit(torso.init)(KEY, obs)
  layers = params['params']
  x = obs.astype(np.float32) / 255
  for name, stride in (('Convolution_0', 4), ('Convolution_1', 2)):
    bias = layers[name]['bias'][None, None, None]
    x = reference_convolution(x, layers[name]['kernel'], stride) + bias
    x = np.maximum(x, 0)
  [dense] = layers['Linear_0'].values()
  x = np.maximum(x.reshape(2, -1) @ dense['kernel'] + dense['bias'][None], 0)
  found = jax.jit(torso.apply)(params, obs)
  np.testing.assert_allclose(found, x, atol=1e-5)


def test_mlp_torso():
  obs = images(3, 2, 4, 5)
  torso = networks.MLPTorso(obs_dims=2, hidden=(7, 6))
  params = torso.init(KEY, obs)
  x = obs.reshape(3, 2, 20) / np.float32(255)
  for name in ('Linear_0', 'Linear_1'):
    [dense] = params['params'][name].values()
    kernel, bias = map(np.asarray, (dense['kernel'], dense['bias']))
    x = np.maximum(x @ kernel + bias, 0)
  found = torso.apply(params, obs)
  assert found.shape == (3, 2, 6)
  np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)


def check_uniform(weights, fan_in):
  """All in ±1/√fan_in, and where there are enough of them, spread over it."""
  bound = 1 / math.sqrt(fan_in)
  weights = np.asarray(weights)
  assert np.max(np.abs(weights)) <= bound
  if weights.size >= 1000:
    assert np.max(weights) > 0.98 * bound
    assert np.min(weights) < -0.98 * bound
    # The standard deviation of a uniform distribution.
    np.testing.assert_allclose(np.std(weights), bound / 3**0.5, rtol=0.05)
  elif weights.size >= 16:
    assert np.max(np.abs(weights)) > 0.8 * bound
    assert abs(np.mean(weights)) < 0.5 * bound


@pytest.mark.parametrize(
  ('network', 'obs', 'layers'),
  [
    (networks.QNetwork(networks.NipsTorso(), 18), FRAMES, 4),
    (
      networks.QNetwork(networks.MLPTorso(), 18),
      np.zeros([1, 50], np.float32),
      3,
    ),
  ],
  ids=['nips', 'mlp'],
)
def test_initial_weights(network, obs, layers):
  params = jax.jit(network.init)(KEY, obs)
  paths = jax.tree_util.tree_leaves_with_path(params)
  found = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
  kernels = [path for path in found if path.endswith("['kernel']")]
  assert len(kernels) == layers
  assert len(found) == 2 * layers
  for path in kernels:
    fan_in = math.prod(found[path].shape[:-1])
    check_uniform(found[path], fan_in)
    check_uniform(found[path.replace('kernel', 'bias')], fan_in)


def test_initial_weights_of_the_heads_and_the_core():
  # Torch's LSTM takes its number of cells for the fan-in of all its weights.
  network = networks.ActorCritic(
    networks.MLPTorso(hidden=()), 18, networks.LSTMCore(cells=64)
  )
  is_first = np.ones([1, 1], bool)
  params = jax.jit(network.init)(
    KEY,
    np.zeros([1, 1, 30], np.float32),
    network.initial_state(1),
    is_first,
  )['params']
  core = jax.tree.leaves(params['core'])
  # Four gates of 64 cells with 30 inputs, 64 states and a bias.
  assert count(core) == 4 * 64 * (30 + 64 + 1)
  for leaf in (*core, *jax.tree.leaves([params['Linear_0']])):
    check_uniform(leaf, 64)
  check_uniform(np.concatenate(jax.tree.leaves(params['Linear_1']), None), 64)


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def plain_lstm(params, x, state, is_first):
  """Hochreiter and Schmidhuber's cell with forget gates, in a plain loop."""
  weights = jax.tree.map(np.asarray, params)
  c, h = state
  outputs = []
  for t in range(len(x)):
    c, h = (np.where(is_first[t][:, None], 0.0, x) for x in (c, h))
    gates = (
      x[t] @ weights['Dense_0']['kernel']
      + weights['Dense_0']['bias']
      + h @ weights['kernel']
    )
    i, f, g, o = np.split(gates, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    outputs.append(h)
  return np.stack(outputs), (c, h)


def recurrent_inputs(features=3, cells=4, steps=6, num_envs=2):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(steps, num_envs, features)).astype(np.float32)
  state = tuple(
    rng.normal(size=(num_envs, cells)).astype(np.float32) for _ in range(2)
  )
  is_first = np.zeros([steps, num_envs], bool)
  is_first[0, 1] = is_first[2, 0] = is_first[3, 0] = is_first[5, 1] = True
  return x, state, is_first


def test_lstm_is_the_plain_loop_with_resets():
  x, state, is_first = recurrent_inputs()
  core = networks.LSTMCore(cells=4)
  params = jax.jit(core.init)(KEY, x, state, is_first)
  found, found_state = jax.jit(core.apply)(params, x, state, is_first)
  expected, expected_state = plain_lstm(params['params'], x, state, is_first)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  for found, expected in zip(found_state, expected_state, strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_lstm_starts_with_zeros():
  for zeros in networks.LSTMCore(cells=4).initial_state(3):
    np.testing.assert_array_equal(zeros, np.zeros([3, 4]))


def test_no_gradient_reaches_over_the_start_of_an_episode():
  x, state, is_first = recurrent_inputs()
  core = networks.LSTMCore(cells=4)
  params = jax.jit(core.init)(KEY, x, state, is_first)

  def last_output(x, state):
    return jnp.sum(core.apply(params, x, state, is_first)[0][-1])

  by_x, by_state = jax.jit(jax.grad(last_output, argnums=(0, 1)))(x, state)
  # Environment 0 restarted at 3 and environment 1 at 5.
  reached = np.any(by_x != 0, axis=2)
  np.testing.assert_array_equal(reached[:, 0], [0, 0, 0, 1, 1, 1])
  np.testing.assert_array_equal(reached[:, 1], [0, 0, 0, 0, 0, 1])
  assert not any(np.any(grad) for grad in by_state)


@pytest.mark.parametrize('core', [None, networks.LSTMCore(cells=4)])
def test_acting_step_by_step_is_the_unroll(core):
  obs, _, is_first = recurrent_inputs()
  network = networks.ActorCritic(networks.MLPTorso(hidden=(5,)), 3, core)
  start = network.initial_state(2)
  params = jax.jit(network.init)(KEY, obs, start, is_first)
  apply = jax.jit(network.apply)
  unrolled, last_state = apply(params, obs, start, is_first)
  assert unrolled.logits.shape == (6, 2, 3)
  assert unrolled.v.shape == (6, 2)
  state = start
  for t in range(6):
    # The rollout resets the state itself.
    state = jax.tree.map(
      lambda x, t=t: jnp.where(is_first[t][:, None], 0.0, x), state
    )
    output, state = apply(params, obs[t : t + 1], state, np.zeros([1, 2], bool))
    np.testing.assert_allclose(output.logits[0], unrolled.logits[t], rtol=1e-5)
    np.testing.assert_allclose(output.v[0], unrolled.v[t], rtol=1e-5)
  assert jax.tree.structure(state) == jax.tree.structure(last_state)
  for found, expected in zip(state, last_state, strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_actor_critic_heads_are_linear_in_the_same_features():
  obs, _, is_first = recurrent_inputs()
  network = networks.ActorCritic(networks.MLPTorso(hidden=()), 3)
  assert network.initial_state(2) == ()
  params = network.init(KEY, obs, (), is_first)
  output, state = network.apply(params, obs, (), is_first)
  assert state == ()
  (policy_bias, policy), (value_bias, value) = (
    map(np.asarray, jax.tree.leaves(params['params'][name]))
    for name in ('Linear_0', 'Linear_1')
  )
  np.testing.assert_allclose(
    output.logits, obs @ policy + policy_bias, rtol=1e-5
  )
  expected = (obs @ value + value_bias)[..., 0]
  np.testing.assert_allclose(output.v, expected, rtol=1e-5)


def test_q_network_takes_any_torso():
  class Double(nn.Module):
    def __call__(self, obs):
      return 2 * obs

  network = networks.QNetwork(Double(), 3)
  obs = np.ones([4, 2, 5], np.float32)
  q, params = network.init_with_output(KEY, obs)
  bias, kernel = map(np.asarray, jax.tree.leaves(params))
  assert kernel.shape == (5, 3)
  np.testing.assert_allclose(q, 2 * obs @ kernel + bias, rtol=1e-5)


def test_linear_conv_torso_has_no_non_linearity():
  torso = networks.LinearConvTorso()
  rng = np.random.default_rng(0)
  one, other = rng.normal(size=(2, 1, 36, 36, 3)).astype(np.float32)
  params = jax.jit(torso.init)(jax.random.key(0), one)
  apply = jax.jit(torso.apply)
  zero = apply(params, np.zeros_like(one))
  both = apply(params, one - 3 * other)
  expected = apply(params, one) - 3 * apply(params, other) + 3 * zero
  np.testing.assert_allclose(both, expected, atol=1e-4)
  assert np.ptp(both) > 0.1
  obs = np.zeros([2, 84, 84, 3], np.uint8)
  assert jax.eval_shape(torso.apply, params, obs).shape == (2, 9 * 9 * 32)


@pytest.mark.parametrize('recurrent', [False, True])
def test_gaussian_policy_and_value_share_nothing(recurrent):
  torsos = [networks.MLPTorso(hidden=(5,)) for _ in range(2)]
  cores = [networks.LSTMCore(cells=4) if recurrent else None for _ in range(2)]
  network = networks.GaussianActorCritic(*torsos, 3, *cores)
  state = network.initial_state(2)
  obs = np.random.default_rng(0).normal(size=(6, 2, 7)).astype(np.float32)
  is_first = np.zeros([6, 2], bool)
  params = jax.jit(network.init)(jax.random.key(0), obs, state, is_first)

  @jax.jit
  @jax.jacrev  # Of all three in one program.
  def by_params(params):
    output, _ = network.apply(params, obs, state, is_first)
    return {of: jnp.sum(x) for of, x in output._asdict().items()}

  gradients = by_params(params)

  def touched(of):
    grads = gradients[of]['params']
    return {
      name
      for name, grad in grads.items()
      if any(np.any(leaf) for leaf in jax.tree.leaves(grad))
    }

  assert touched('mean') & touched('variance')
  policy = touched('mean') | touched('variance')
  assert policy & touched('v') == set()
  assert policy | touched('v') == set(params['params'])


def test_gaussian_variance_is_softplus():
  network = networks.GaussianActorCritic(
    networks.MLPTorso(hidden=()), networks.MLPTorso(hidden=()), 2
  )
  obs = np.array([[[-50.0], [0.0], [3.0]]], np.float32)
  is_first = np.zeros([1, 3], bool)
  params = network.init(jax.random.key(0), obs, (), is_first)
  params['params']['Linear_1']['Dense_0'] = {
    'kernel': np.array([[1.0]], np.float32),
    'bias': np.zeros(1, np.float32),
  }
  output, _ = network.apply(params, obs, (), is_first)
  assert output.mean.shape == (1, 3, 2)
  assert (output.variance > 0).all()
  np.testing.assert_allclose(
    output.variance[0],
    [np.exp(-50.0), np.log(2.0), np.log1p(np.exp(3.0))],
    rtol=1e-5,
  )


INF = np.inf


@pytest.mark.parametrize(
  ('low', 'high', 'dtype', 'obs', 'expected'),
  [
    # Bytes: one-hot, some levels, and as pictures are.
    ([0, 0], [1, 1], np.uint8, [0, 1], [0, 1]),
    ([0, 0], [10, 4], np.uint8, [5, 4], [0.5, 1]),
    ([0, 0], [255, 255], np.uint8, [0, 51], [0, 0.2]),
    ([100, 0], [200, 255], np.uint8, [150, 51], [0.5, 0.2]),
    # Floats: [0, 1] from zero on, [-1, 1] where the lower bound is negative.
    ([0, 100], [255, 101], np.float32, [51, 100.5], [0.2, 0.5]),
    ([-1, -4], [1, 4], np.float32, [0.3, 1], [0.3, 0.25]),
    ([-3, -2], [1, -1], np.float32, [1, -1.5], [1, 0]),
    # Each number for itself; without a finite bound it stays as it is.
    ([-4.8, -INF], [4.8, INF], np.float32, [2.4, 7], [0.5, 7]),
    ([0, -INF], [INF, 1], np.float32, [3, -3], [3, -3]),
    ([-1e7, 2], [1e7, 2], np.float32, [3, 2], [3, 2]),
    ([-3e38, 0], [3e38, 1], np.float32, [3, 0.5], [3, 0.5]),
  ],
)
def test_observations_are_scaled_by_their_bounds(
  low, high, dtype, obs, expected
):
  scale = networks.scale_between(
    np.array(low, dtype), np.array(high, dtype), np.dtype(dtype)
  )
  hash(scale)  # A part of a module that JAX compiles for.
  torso = networks.MLPTorso(hidden=(2,), scale=scale)
  for sign in (1, -1):  # ReLU lets through one of them.
    layer = {'kernel': sign * np.eye(2), 'bias': np.zeros(2)}
    params = {'Linear_0': {'Dense_0': layer}}
    np.testing.assert_allclose(
      torso.apply({'params': params}, np.array([[obs]], dtype)),
      [[np.maximum(sign * np.array(expected), 0)]],
      rtol=1e-6,
    )


def test_bounds_of_each_pixel_scale_images():
  low = np.zeros((9, 10, 3), np.float32)
  high = np.full((9, 10, 3), 4.0, np.float32)
  high[2, 3, 1] = 8.0
  scale = networks.scale_between(low, high, np.dtype(np.float32))
  obs = np.random.default_rng(0).uniform(0, 4, (5, 9, 10, 3))
  obs = obs.astype(np.float32)
  plain = networks.MLPTorso(obs_dims=3, hidden=(8,))
  scaled = networks.MLPTorso(obs_dims=3, hidden=(8,), scale=scale)
  params = plain.init(jax.random.PRNGKey(0), obs)
  np.testing.assert_allclose(
    scaled.apply(params, obs), plain.apply(params, obs / high), rtol=1e-5
  )
