"""Writes the policy of a run as a model: a folder to give to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import json
import logging
import os
import pathlib
import shlex
import shutil
from typing import Any

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, files, paths, tables
from a3c_jax.runs import checkpoint_store, checkpoints, loading, model_file
from a3c_jax.settings import as_flags as as_flags_lib
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.common import Config

_logger = logging.getLogger(__name__)
_SHOWN = (  # Columns of evaluations.csv in the card.
  'protocol',
  'policy',
  'episodes',
  'mean_return',
  'standard_error',
  'human_normalized',
)


@dataclasses.dataclass(frozen=True)
class Options:
  """Which policy to export, and where to; a flag of the script for each."""

  workdir: str = fields.path(
    'Folder of the run.', default='', source='has to be given'
  )
  checkpoint: str = fields.setting(
    'latest, best (by the evaluations during training), or its frames.',
    'latest, best, or a count of frames',
    loading.is_checkpoint,
    default='latest',
    source='paper, section 5.1, evaluates the final weights',
  )
  out: str = fields.path(
    'Folder of the model, new or empty.', default='', source='has to be given'
  )
  dtype: str = fields.one_of(
    'Data type of the weights in the file. float16 halves it. What normalises '
    'images and observations keeps its own.',
    model_file.DTYPES,
    default='float32',
    source='ours: the weights as they were learnt',
  )


def export(options: Options) -> pathlib.Path:
  """Writes a model: parameters, settings, scores, and a card that explains it.

  Imports nothing that the settings of the run name. Its folder has
  model.safetensors, the config.json of the run, README.md, and evaluations.csv
  if `evaluate.py` has scored these parameters.

  Args:
    options: valid by themselves.

  Returns:
    The folder.

  Raises:
    UsageError: naming the flag, if there is no such run or checkpoint, the
      folder cannot be made, or a weight is too large for `dtype`.
    RunError: if the disk is full.
  """
  workdir, out = pathlib.Path(options.workdir), pathlib.Path(options.out)
  record = record_lib.read(workdir)
  arrays, frames, problems = _read(workdir, options.checkpoint)
  for problem in problems:
    _logger.warning('%s', problem)
  scores = _scores(workdir / 'evaluations.csv', frames)
  model = model_file.Model(
    {name: arrays.get(name) for name in ('params', 'statistics')},
    frames,
    options.dtype,
  )
  _check_out(out)
  unfinished = out.with_name(f'{out.name}{files.UNFINISHED}')
  try:
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model_file.write(unfinished, model)
    _write_settings(unfinished, workdir, out.name)
    if scores:
      path = unfinished / 'evaluations.csv'
      with path.open('w', newline='', encoding='utf-8') as file:
        tables.write(file, scores)
    card = _card(record.config, model, scores, folder=out.name)
    (unfinished / 'README.md').write_text(card, encoding='utf-8')
    unfinished.replace(out)
  except OverflowError as error:
    raise errors.UsageError(
      f'--dtype={options.dtype}: {error}; allowed: float32'
    ) from error
  except OSError as error:
    if error.errno in files.NO_SPACE:
      raise errors.RunError(
        f'--out={paths.as_given(out)}: {error.strerror}; nothing was written'
      ) from error
    _refuse(out, error.strerror)
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)
  _logger.info(
    'parameters of frame %s in %s', f'{frames:,}', paths.as_given(out)
  )
  return out


def _read(workdir, checkpoint):
  try:
    arrays, frames, problems = checkpoints.read_arrays(workdir, checkpoint)
    if not isinstance(arrays.get('params'), dict):
      raise checkpoint_store.CorruptError('it has no parameters')
  except (checkpoint_store.CorruptError, FileNotFoundError) as error:
    raise errors.UsageError(
      f'--checkpoint={checkpoint}: {error}; allowed: latest, best, or the '
      'frames of one that is there'
    ) from error
  return arrays, frames, problems


def _scores(path: pathlib.Path, frames: int) -> list[dict[str, str]]:
  """The rows of evaluations.csv that are of these parameters."""
  if not path.is_file():  # Reading a pipe would block.
    return []
  try:
    with path.open(newline='', encoding='utf-8') as file:
      rows = [row for row in csv.DictReader(file) if None not in row.values()]
  except (OSError, ValueError, csv.Error) as error:
    raise errors.UsageError(
      f'--workdir={paths.as_given(path.parent)}: evaluations.csv: '
      f'{errors.in_one_line(error)}; allowed: a run without it, or one that '
      'evaluate.py wrote'
    ) from error
  return [row for row in rows if row.get('frames') == str(frames)]


def _check_out(out: pathlib.Path) -> None:
  if os.path.lexists(out) and not (out.is_dir() and not out.is_symlink()):
    _refuse(out, 'is no folder')
  try:
    if out.is_dir() and any(out.iterdir()):
      _refuse(out, 'holds files')
  except OSError as error:
    _refuse(out, error.strerror)


def _refuse(out, problem):
  raise errors.UsageError(
    f'--out={paths.as_given(out)}: {problem}; allowed: a new or empty folder'
  )


def _write_settings(folder, workdir, name) -> None:
  """Copies config.json; the folder of the run may name a machine or a user."""
  record = json.loads((workdir / 'config.json').read_text())
  record['config'] |= {'workdir': name}
  text = json.dumps(record, indent=2) + '\n'
  (folder / 'config.json').write_text(text, encoding='utf-8')


def _card(
  config: Config,
  model: model_file.Model,
  scores: Sequence[Mapping[str, Any]],
  *,
  folder: str,
) -> str:
  """A description in Markdown: what it is, how it was made, what it scores."""
  title = registry.get(config.algo).title
  if config.lstm:
    title += ' with LSTM'
  flags = shlex.join(as_flags_lib.as_flags(config))
  lines = [
    f'# {title} on {config.env_name}',
    '',
    f'A policy of a3c_jax after {model.frames:,} emulator frames of training, '
    f'with seed {config.seed}. Its weights are {model.dtype}.',
    '',
    '```',
    f'python -m a3c_jax {config.domain} {flags}',
    '```',
    '',
    *_score_lines(scores, model.dtype),
    'To play with it:',
    '',
    '```',
    f'python experiments/evaluate.py --workdir={shlex.quote(folder)}',
    '```',
    '',
    'In Python:',
    '',
    '```python',
    'import a3c_jax',
    '',
    f'policy = a3c_jax.load({folder!r})',
    '```',
    '',
    '`config.json` has all settings, the spaces of the environment and the '
    'versions of packages.',
    '`model.safetensors` has the parameters.',
  ]
  return '\n'.join(lines) + '\n'


def _score_lines(scores, dtype) -> list[str]:
  if not scores:
    return ['It was not evaluated when it was exported.', '']
  rows = [[_rounded(row.get(name, '')) for name in _SHOWN] for row in scores]
  lines = [
    'Scores are raw returns of whole games with fixed parameters. All columns '
    'are in `evaluations.csv`.',
    '',
    *(
      f'| {" | ".join(row)} |'
      for row in (
        [name.replace('_', ' ') for name in _SHOWN],
        ['---'] * len(_SHOWN),
        *rows,
      )
    ),
    '',
  ]
  if dtype != 'float32':
    lines += [f'They were measured before weights became {dtype}.', '']
  return lines


def _rounded(text: str) -> str:
  try:
    return f'{float(text):.2f}' if '.' in text else text
  except ValueError:
    return text
