"""Sends what a run reports to Weights & Biases or to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import json
import logging
import math
import os
import pathlib
import queue
import re
import secrets
import threading
import time
from types import MappingProxyType
from typing import Any, Protocol

from a3c_jax.core import errors, files, packages
from a3c_jax.runs import logger
from a3c_jax.settings import record as record_lib
from a3c_jax.settings.common import Config

_PROJECT = 'a3c_jax'  # Unless an environment variable names another.
_FILE = 'tracking.json'  # In the workdir: names of the run at each service.
_MOST_WAITING = 1_000  # Reports; a row comes every ten seconds.
_CLOSE_SECONDS = 20.0  # For what still waits at the end of a run.
_ID = re.compile(r'[\w-]{1,128}', re.ASCII)
_logger = logging.getLogger(__name__)


class Service(Protocol):
  """A run at a tracking service."""

  def send(self, scalars: Mapping[str, float], frames: int) -> None:
    """Sends finite numbers at a count of emulator frames."""
    ...

  def finish(self, *, done: bool) -> None:
    """Sends the rest, and closes the run.

    Args:
      done: whether the run has done all its frames.
    """
    ...


class Tracker(logger.Logger):
  """Sends rows and evaluations in a thread of its own; never ends a run.

  The thread opens the run at the service with the first row. A run that resumes
  goes on with the same one.
  """

  def __init__(self, name: str, connect: Callable[[], Service]):
    """Opens nothing yet.

    Args:
      name: of the service, for messages.
      connect: opens the run there.
    """
    self._name = name
    self._connect = connect
    self._reports: queue.Queue[tuple[dict[str, float], int] | None] = (
      queue.Queue(_MOST_WAITING)
    )
    self._thread: threading.Thread | None = None
    self._failed = threading.Event()
    self._done = False

  def on_row(self, row: logger.TrainRow) -> None:
    self._put('train', row.scalars, row.frames)

  def on_evaluation(self, row: logger.EvalRow) -> None:
    figures = {
      name: value
      for name, value in row._asdict().items()
      if isinstance(value, int | float) and name not in ('frames', 'seconds')
    }
    self._put('eval', figures, row.frames)

  def on_progress(self, progress: logger.Progress) -> None:
    self._done = progress.frames >= progress.total_frames

  def close(self) -> None:
    if self._thread is None:
      return
    end = time.monotonic() + _CLOSE_SECONDS
    with contextlib.suppress(queue.Full):
      self._reports.put(None, timeout=_CLOSE_SECONDS)
    self._thread.join(max(0.0, end - time.monotonic()))
    if self._thread.is_alive():
      self._give_up('it did not take the rest in time')

  def _put(self, group, figures, frames) -> None:
    scalars = {
      f'{group}/{name}': float(value)
      for name, value in figures.items()
      if math.isfinite(value)
    }
    if self._failed.is_set():
      return
    if self._thread is None:
      self._thread = threading.Thread(
        target=self._send_all, name=f'tracker-{self._name}', daemon=True
      )
      self._thread.start()
    try:
      self._reports.put_nowait((scalars, frames))
    except queue.Full:
      self._give_up('it takes too long')

  def _send_all(self) -> None:
    try:
      service = self._connect()
      while (report := self._reports.get()) is not None:
        if self._failed.is_set():
          return
        service.send(*report)
      service.finish(done=self._done)
    except Exception as error:
      self._give_up(errors.in_one_line(str(error) or repr(error))[:200])

  def _give_up(self, problem: str) -> None:
    if not self._failed.is_set():
      self._failed.set()  # Training is worth more than its record.
      _logger.warning(
        'the run is not tracked any more: %s: %s', self._name, problem
      )


def make(config: Config) -> Tracker | None:
  """Returns the tracker of `--tracker`; None for none.

  Raises:
    UsageError: if its package is not installed, or nobody is logged in.
  """
  if config.tracker == 'none':
    return None
  check, connect = _SERVICES[config.tracker]
  check()
  path = pathlib.Path(config.workdir)
  return Tracker(config.tracker, lambda: connect(config, path))


def _known(path: pathlib.Path) -> dict[str, str]:
  """The names of the run at each service, as far as the workdir knows."""
  try:
    found = json.loads((path / _FILE).read_bytes())
    return {
      service: name
      for service, name in found.items()
      if isinstance(name, str) and _ID.fullmatch(name)
    }
  except (OSError, ValueError, AttributeError):
    return {}


def _remember(path: pathlib.Path, service: str, name: str) -> None:
  text = json.dumps(_known(path) | {service: name}) + '\n'
  files.replace(path / _FILE, text.encode())


def _check_wandb() -> None:
  packages.check_installed('--tracker=wandb', 'wandb', extra='wandb')
  import wandb

  offline = os.environ.get('WANDB_MODE') in ('offline', 'disabled')
  if not offline and not wandb.login(prompt=False, verify=False):
    raise errors.UsageError(
      '--tracker=wandb: nobody is logged in; allowed: after `wandb login`, '
      'with WANDB_API_KEY or WANDB_MODE=offline, or --tracker=none'
    )


class _Wandb:
  """A run of Weights & Biases."""

  def __init__(self, config: Config, path: pathlib.Path):
    import wandb

    name = _known(path).get('wandb') or secrets.token_hex(8)
    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT') or _PROJECT,
      id=name,
      resume='allow',
      name=path.name,
      dir=str(path),
      config=record_lib.all_settings(config),
      # The screen is the run's own.
      settings=wandb.Settings(console='off', silent=True),
    )
    self._run.define_metric('*', step_metric='frames')
    _remember(path, 'wandb', name)

  def send(self, scalars: Mapping[str, float], frames: int) -> None:
    self._run.log({'frames': frames, **scalars})

  def finish(self, *, done: bool) -> None:
    self._run.finish(exit_code=0 if done else 1)


def _check_mlflow() -> None:
  packages.check_installed('--tracker=mlflow', 'mlflow', extra='mlflow')


class _MLflow:
  """A run of MLflow."""

  def __init__(self, config: Config, path: pathlib.Path):
    # Its default of seven retries takes minutes.
    os.environ.setdefault('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '1')
    import mlflow
    from mlflow.entities import Param

    self._client = mlflow.MlflowClient()
    known = _known(path).get('mlflow')
    if known is not None:
      with contextlib.suppress(mlflow.MlflowException):  # It was deleted.
        self._client.update_run(known, status='RUNNING')
        self._run: str = known
        return
    title = os.environ.get('MLFLOW_EXPERIMENT_NAME') or _PROJECT
    experiment = self._client.get_experiment_by_name(title)
    self._run = self._client.create_run(
      experiment.experiment_id
      if experiment
      else self._client.create_experiment(title),
      run_name=path.name,
    ).info.run_id
    _remember(path, 'mlflow', self._run)
    settings = record_lib.all_settings(config).items()
    self._client.log_batch(
      self._run, params=[Param(name, str(value)) for name, value in settings]
    )

  def send(self, scalars: Mapping[str, float], frames: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
      Metric(name, value, now, frames) for name, value in scalars.items()
    ]
    self._client.log_batch(self._run, metrics=metrics)

  def finish(self, *, done: bool) -> None:
    self._client.set_terminated(self._run, 'FINISHED' if done else 'KILLED')


_SERVICES: Mapping[str, Any] = MappingProxyType(
  {'wandb': (_check_wandb, _Wandb), 'mlflow': (_check_mlflow, _MLflow)}
)
