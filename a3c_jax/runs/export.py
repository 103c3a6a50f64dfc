"""Writes the policy of a run as a model: a folder to give to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import json
import logging
import os
import pathlib
import re
import shlex
import shutil
from typing import Any

from a3c_jax.algorithms import registry
from a3c_jax.core import errors, fields, files, packages, paths
from a3c_jax.runs import (
  checkpoints,
  evaluate_run,
  evaluations_csv,
  loading,
  model_file,
)
from a3c_jax.settings import as_flags as as_flags_lib
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import record as record_lib

_logger = logging.getLogger(__name__)
_REPOSITORY = re.compile(r'[\w.-]{1,96}/[\w.-]{1,96}', re.ASCII)
_SHOWN = {  # Columns of evaluations.csv in the card, and their headings.
  'protocol': 'protocol',
  'policy': 'actions',
  'episodes': 'episodes',
  'mean_return': 'mean return',
  'standard_error': 'standard error',
  'human_normalized': 'human-normalised, %',
}
Scores = Sequence[Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Options:
  """Which policy to export, and where to; a flag of the script for each."""

  workdir: str = fields.path(
    'Folder of the run.', default='', source='has to be given'
  )
  checkpoint: str = fields.changed(evaluate_run.Options, 'checkpoint')
  out: str = fields.path(
    'Folder of the model, which is made.', default='', source='has to be given'
  )
  dtype: str = fields.one_of(
    'Data type of the weights in the file. float16 halves it. What normalises '
    'images and observations keeps its own.',
    model_file.DTYPES,
    default='float32',
    source='ours: the weights as they were learnt',
  )
  push_to_hub: str = fields.setting(
    'Model repository of the Hugging Face Hub that gets the folder too. It is '
    'made if there is none.',
    'OWNER/NAME',
    lambda value: not value or bool(_REPOSITORY.fullmatch(value)),
    default='',
    source='ours: none',
  )


def export(options: Options) -> None:
  """Writes a model: parameters, settings, scores, and a card that explains it.

  Imports nothing that the settings of the run name. Its folder has
  model.safetensors, the config.json of the run, README.md, and evaluations.csv
  if `evaluate.py` has scored these parameters.

  Args:
    options: valid by themselves.

  Raises:
    UsageError: naming the flag, if there is no such run or checkpoint, the
      folder is there or cannot be made, or a weight is too large for `dtype`.
    RunError: if the model cannot be written, or not be uploaded; it is written
      then.
  """
  if options.push_to_hub:
    _check_hub(options.push_to_hub)
  workdir, out = pathlib.Path(options.workdir), pathlib.Path(options.out)
  if model_file.is_model(workdir):
    raise errors.UsageError(
      f'--workdir={paths.as_given(workdir)}: is a model already; allowed: the '
      'folder of a run'
    )
  record = record_lib.read(workdir)
  with loading.checkpoint_errors(workdir, options.checkpoint):
    arrays, frames, problems = checkpoints.read_arrays(
      workdir, options.checkpoint
    )
  for problem in problems:
    _logger.warning('%s', problem)
  model = model_file.Model(
    {name: arrays.get(name) for name in ('params', 'statistics')},
    frames,
    options.dtype,
  )
  scores = evaluations_csv.rows_of(
    workdir / 'evaluations.csv',
    algo=record.config.algo,
    env=record.config.env_name,
    seed=str(record.config.seed),
    frames=str(frames),
  )
  contents = {
    'config.json': _settings(workdir, record.config, out.name),
    'README.md': _card(record, model, scores, folder=out.name),
  }
  if scores:
    contents['evaluations.csv'] = evaluations_csv.as_text(scores)
  _write(options, model, contents)
  _logger.info(
    'parameters of frame %s in %s', f'{frames:,}', paths.as_given(out)
  )
  if options.push_to_hub:
    _push(out, options.push_to_hub, title=contents['README.md'].split('\n')[0])


def _check_hub(repository: str) -> None:
  """Raises UsageError unless somebody is logged in at the hub."""
  flag = f'--push_to_hub={repository}'
  packages.check_installed(flag, 'huggingface_hub', extra='hub')
  import huggingface_hub

  if huggingface_hub.get_token() is None:
    raise errors.UsageError(
      f'{flag}: nobody is logged in; allowed: after `hf auth login`, or with '
      'HF_TOKEN'
    )


def _push(folder: pathlib.Path, repository: str, *, title: str) -> None:
  """Uploads a model.

  Raises:
    RunError: if it cannot be uploaded.
  """
  import huggingface_hub

  try:
    huggingface_hub.create_repo(repository, exist_ok=True)
    place = huggingface_hub.upload_folder(
      repo_id=repository,
      folder_path=folder,
      commit_message=title.removeprefix('# '),
    )
  except Exception as error:  # Whatever the network and the hub raise.
    raise errors.RunError(
      f'--push_to_hub={repository}: '
      f'{errors.in_one_line(str(error) or repr(error))[:200]}; the model is in '
      f'{paths.as_given(folder)}'
    ) from error
  _logger.info('uploaded: %s', place)


def _write(
  options: Options, model: model_file.Model, contents: Mapping[str, str]
) -> None:
  """Makes the folder, as a whole or not at all."""
  out = pathlib.Path(options.out)
  if os.path.lexists(out):
    _refuse(out, 'is there already')
  # Nothing else has this name, so that nothing else is removed at the end.
  name = f'.{out.name[:100]}-{os.getpid()}{files.UNFINISHED}'
  unfinished = out.with_name(name)
  try:
    unfinished.mkdir(parents=True)
  except OSError as error:
    _refuse(out, error.strerror)
  try:
    model_file.write(unfinished, model)
    model_file.read(unfinished)
    for name, text in contents.items():
      content = text.encode('utf-8', 'backslashreplace')
      files.replace(unfinished / name, content)
    unfinished.rename(out)
    files.sync_folder(out.parent)
  except OverflowError as error:
    raise errors.UsageError(
      f'--dtype={options.dtype}: {error}; allowed: float32'
    ) from error
  except (TypeError, ValueError) as error:  # Arrays of no network.
    raise errors.UsageError(
      f'--checkpoint={options.checkpoint}: {errors.in_one_line(error)}; '
      'allowed: one that this version of a3c_jax wrote'
    ) from error
  except OSError as error:
    raise errors.RunError(
      f'--out={paths.as_given(out)}: {error.strerror or error}; nothing was '
      'written'
    ) from error
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)


def _refuse(out, problem):
  raise errors.UsageError(
    f'--out={paths.as_given(out)}: {problem}; allowed: a folder that can be '
    'made'
  )


def _settings(workdir, config, name) -> str:
  """The text of config.json, without paths: they may name a user."""
  record = json.loads((workdir / 'config.json').read_text())
  of_one_machine = dict.fromkeys(paths.absolute_paths(config), '')
  record['config'] |= of_one_machine | {'workdir': name}
  return json.dumps(record, indent=2) + '\n'


def _card(
  record: record_lib.Record,
  model: model_file.Model,
  scores: Scores,
  *,
  folder: str,
) -> str:
  """A description in Markdown: what it is, how it was made, what it scores."""
  config = record.config
  title = registry.get(config.algo).title
  if config.lstm:
    title += ' with LSTM'
  code = config_lib.code_named(config)
  flags = as_flags_lib.as_flags(config)
  path = f'path/to/{folder}'
  trust = ' --trust_workdir' if code else ''
  python = f'{path!r}, trust=True' if code else repr(path)
  lines = [
    f'# {title} on {errors.in_one_line(config.env_name)}',
    '',
    f'A policy of a3c_jax after {model.frames:,} of {config.frames:,} emulator '
    f'frames of training with seed {config.seed}. Its weights are '
    f'{model.dtype}. The settings of its training:',
    '',
    '```',
    errors.in_one_line(f'a3c-jax train {config.domain} {shlex.join(flags)}'),
    '```',
    '',
    *_change_lines(record.changes),
    *_score_lines(scores, model.dtype),
    'To play with it:',
    '',
    '```',
    f'a3c-jax evaluate --workdir={shlex.quote(path)}{trust}',
    '```',
    '',
    'In Python:',
    '',
    '```python',
    'import a3c_jax',
    '',
    f'policy = a3c_jax.load({python})',
    '```',
    '',
    '`config.json` has all settings and the versions of packages. '
    '`model.safetensors` has the parameters.',
  ]
  return '\n'.join(lines) + '\n'


def _change_lines(changes: Sequence[Mapping[str, Any]]) -> list[str]:
  if not changes:
    return []
  names = sorted({_cell(each.get('setting', '')) for each in changes})
  return [
    f'They are those of its end: {", ".join(names)} had other values before '
    '(`changes` in `config.json`).',
    '',
  ]


def _score_lines(scores: Scores, dtype: str) -> list[str]:
  if not scores:
    return ['It was not evaluated before it was exported.', '']
  table = [
    _SHOWN.values(),
    ['---'] * len(_SHOWN),
    *([_cell(row.get(name, '')) for name in _SHOWN] for row in scores),
  ]
  lines = [
    'Scores are raw returns of whole games with fixed parameters. All columns '
    'are in `evaluations.csv`.',
    '',
    *(f'| {" | ".join(row)} |' for row in table),
    '',
  ]
  if dtype != 'float32':
    lines += [f'They were measured before weights became {dtype}.', '']
  return lines


def _cell(text: Any) -> str:
  """Text for a cell of a table; numbers with two decimals."""
  text = errors.in_one_line(text).replace('|', r'\|')
  try:
    return f'{float(text):.2f}' if '.' in text else text
  except ValueError:
    return text
