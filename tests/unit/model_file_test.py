"""The file of a model: arrays in, the same arrays out."""

import json
import pathlib
import tempfile

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from a3c_jax.networks import layers
from a3c_jax.runs import model_file
from a3c_jax.runs.verified_files import CorruptError

KERNEL = np.array([[1.0, 1 / 3], [-2.5, 70.0]], np.float32)


def model(dtype, **weights):
  arrays = {
    'params': {
      'params': {'Dense_0': {'kernel': KERNEL.T, **weights}},
      'constants': {'c': KERNEL[1] * 1e6},
      layers.MOMENTS: {'mean': KERNEL[0], 'deviation': np.float32(1 / 3)},
    },
    'statistics': {'count': np.float64(3.0), 'mean': KERNEL[0]},
  }
  return model_file.Model(arrays, 20_000_000, dtype)


@pytest.mark.parametrize('dtype', model_file.DTYPES)
def test_what_is_read_is_what_was_written(tmp_path, dtype):
  model_file.write(tmp_path, model(dtype))
  found = model_file.read(tmp_path)
  assert (found.frames, found.dtype) == (20_000_000, dtype)
  kernel = found.arrays['params']['params']['Dense_0']['kernel']
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel, KERNEL.T.astype(dtype))
  constant = found.arrays['params']['constants']['c']
  np.testing.assert_array_equal(constant, KERNEL[1] * np.float32(1e6))
  moments = found.arrays['params'][layers.MOMENTS]
  np.testing.assert_array_equal(moments['mean'], KERNEL[0])
  assert moments['deviation'].shape == ()
  assert moments['deviation'] == np.float32(1 / 3)
  statistics = found.arrays['statistics']
  assert statistics['count'].dtype == np.float64
  np.testing.assert_array_equal(statistics['mean'], KERNEL[0])


def test_without_statistics_there_are_none(tmp_path):
  arrays = model('float32').arrays | {'statistics': None}
  model_file.write(tmp_path, model_file.Model(arrays, 0, 'float32'))
  assert [*model_file.read(tmp_path).arrays] == ['params']


def test_a_weight_too_large_for_float16_is_named(tmp_path):
  with pytest.raises(OverflowError, match='params/params/Dense_0/bias has'):
    model_file.write(
      tmp_path, model('float16', bias=np.array([65_520.0], np.float32))
    )
  assert not model_file.is_model(tmp_path)


def of_header(**changes):
  """The content of a file whose header was changed."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, model_file.NAME)
    model_file.write(path.parent, model('float32'))
    flat = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework='np') as file:
      header = json.loads(file.metadata()['a3c_jax'])
  return safetensors.numpy.save(flat, {'a3c_jax': json.dumps(header | changes)})


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'no header',
    safetensors.numpy.save({'params/a': KERNEL}),
    safetensors.numpy.save({'params/a': KERNEL}, {'a3c_jax': '[' * 100_000}),
    of_header(format='model-2'),
    of_header(frames='x'),
    of_header(frames=True),
    of_header(frames=-1),
    of_header(frames=2**63),
    of_header(dtype='float31'),
    of_header(dtype=None),
    of_header(sha256='0'),
  ],
)
def test_other_files_are_corrupt(tmp_path, content):
  (tmp_path / model_file.NAME).write_bytes(content)
  with pytest.raises(CorruptError):
    model_file.read(tmp_path)


def test_a_file_that_lacks_its_end_is_corrupt(tmp_path):
  model_file.write(tmp_path, model('float32'))
  path = tmp_path / model_file.NAME
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(CorruptError, match='model.safetensors is damaged'):
    model_file.read(tmp_path)


def test_a_file_with_a_flipped_bit_is_corrupt(tmp_path):
  model_file.write(tmp_path, model('float32'))
  path = tmp_path / model_file.NAME
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  with pytest.raises(CorruptError, match='differs from what was written'):
    model_file.read(tmp_path)


@pytest.mark.parametrize('array', [np.ones(2, np.complex128), np.array(['x'])])
def test_arrays_that_the_format_lacks_are_refused(tmp_path, array):
  with pytest.raises((ValueError, TypeError)):
    model_file.write(tmp_path, model('float32', bias=array))
