"""The file model.safetensors: arrays of a policy that needs no code to read."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

from flax import traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from a3c_jax.core import files
from a3c_jax.runs.verified_files import CorruptError

NAME = 'model.safetensors'
DTYPES = ('float32', 'float16')
_PROGRAM = 'a3c_jax'
_FORMAT = 'model-1'
_SEPARATOR = '/'
# Of the arrays of a policy, the parameters of its network that are learnt.
_WEIGHTS = 'params/params/'


class Model(NamedTuple):
  """The content of the file."""

  arrays: dict[str, Any]  # nested dicts, as in a checkpoint
  frames: int  # emulator frames of training
  dtype: str  # of weights in the file


def is_model(folder: pathlib.Path) -> bool:
  """Whether a folder is that of a model and not that of a run."""
  return (folder / NAME).is_file()


def write(folder: pathlib.Path, model: Model) -> None:
  """Writes the file.

  Weights of float32 are written in `model.dtype`. All else keeps its type:
  images and observations are normalised with all digits.

  Raises:
    OverflowError: naming the first weight that is too large for its new type.
    ValueError, TypeError: if the format has no such arrays.
    OSError: if it cannot be written.
  """
  flat = traverse_util.flatten_dict(model.arrays, sep=_SEPARATOR)
  # In C order, which the format takes for granted.
  stored = {
    name: np.array(_stored(name, np.asarray(array), model.dtype), order='C')
    for name, array in flat.items()
    if array is not None
  }
  header = {
    'format': _FORMAT,
    'frames': model.frames,
    'dtype': model.dtype,
    'sha256': _digest(stored),
  }
  try:
    # One entry: those of the library have no fixed order.
    content = safetensors.numpy.save(stored, {_PROGRAM: json.dumps(header)})
  except (safetensors.SafetensorError, KeyError) as error:
    raise ValueError(f'{NAME} cannot have such arrays: {error}') from error
  files.replace(folder / NAME, content, read_back=True)


def _stored(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
  if not name.startswith(_WEIGHTS) or array.dtype != np.float32:
    return array
  with np.errstate(over='ignore'):
    stored = array.astype(dtype)
  if np.isfinite(array).all() and not np.isfinite(stored).all():
    raise OverflowError(f'{name} has weights that are too large')
  return stored


def _digest(flat: Mapping[str, np.ndarray]) -> str:
  """A SHA-256 of names and bytes; the format has none of its own."""
  found = hashlib.sha256()
  for name in sorted(flat):
    found.update(f'{name}\n'.encode())
    found.update(flat[name].tobytes())
  return found.hexdigest()


def read(folder: pathlib.Path) -> Model:
  """Reads the file; weights are float32 again, as learners have them.

  Raises:
    CorruptError: if it is damaged, or of another program.
    OSError: if it cannot be read.
  """
  try:
    with safetensors.safe_open(folder / NAME, framework='np') as file:
      header = json.loads((file.metadata() or {}).get(_PROGRAM, '{}'))
      names = file.keys()  # The file is no mapping.
      flat = {name: np.array(file.get_tensor(name)) for name in names}
    if header.get('format') != _FORMAT:
      raise CorruptError(f'another program or version wrote {NAME}')
    if header['sha256'] != _digest(flat):
      raise CorruptError(f'{NAME} differs from what was written')
    frames, dtype = header['frames'], header['dtype']
    if type(frames) is not int or not 0 <= frames < 2**63:
      raise ValueError(f'{frames!r} frames')
    if dtype not in DTYPES:
      raise ValueError(f'weights of {dtype!r}')
    for name, array in flat.items():
      if name.startswith(_WEIGHTS) and array.dtype == np.float16:
        flat[name] = array.astype(np.float32)
    return Model(
      traverse_util.unflatten_dict(flat, sep=_SEPARATOR), frames, dtype
    )
  except (CorruptError, OSError):
    raise
  # Whatever a made-up file makes the parsers raise.
  except Exception as error:
    raise CorruptError(f'{NAME} is damaged: {error}') from error
