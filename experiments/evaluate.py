"""Evaluates the trained policy of a run; learns nothing.

python experiments/evaluate.py --workdir=runs/pong-a3c-... --episodes=30
"""

from __future__ import annotations

import ctrl_c as ctrl_c  # Before all that takes its time.

# isort: split
import contextlib
import csv
import dataclasses
import errno
import io
import os
import pathlib
import stat
import tempfile

import gymnasium
import numpy as np

from a3c_jax import command_line
from a3c_jax.algorithms import registry
from a3c_jax.core import cpu, errors, fields, files, paths, tables, workers
from a3c_jax.envs import boundary, reference_scores, replayable
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runs import evaluation, loading
from a3c_jax.runs import policy as policy_lib
from a3c_jax.runs import workdir as workdir_lib
from a3c_jax.settings import build
from a3c_jax.settings import config as config_lib
from a3c_jax.settings import flags as flags_lib
from a3c_jax.settings.common import MAX_EVAL_EPISODE_FRAMES


@dataclasses.dataclass(frozen=True)
class Options:
  """What to evaluate, and how."""

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
  episodes: int = fields.count('Episodes.', default=30, source='ours')
  max_eval_episode_frames: int = fields.count(
    'Emulator frames after which an episode is truncated.',
    default=MAX_EVAL_EPISODE_FRAMES,
    source='ours: as in Atari, 30 minutes',
  )
  protocol: str = fields.setting(
    'noop30 (0 to 30 no-ops first) or sticky (actions repeat with probability '
    "0.25) for Atari, plain for the rest; auto is that of the run's own "
    'evaluations.',
    "auto, or a protocol of the run's domain",
    lambda value: value != '',
    default='auto',
    source='ours',
  )
  policy: str = fields.one_of(
    'sample from the policy, epsilon-greedily if it is value-based, or take '
    'the best action: greedy, or mean if actions are continuous.',
    policy_lib.POLICIES,
    default='sample',
    source='paper, section 4',
  )
  exploration_epsilon: float = fields.fraction(
    'Epsilon of a value-based policy that is not greedy.',
    default=policy_lib.EXPLORATION_EPSILON,
    source='Mnih et al. 2015',
  )
  seed: int = fields.setting(
    'Seed of games and actions.',
    '0 to 2147483647',
    lambda value: 0 <= value < 2**31,
    default=0,
    source='ours',
  )
  threads: int = fields.count(
    'Episodes that are played at once.',
    most=1000,
    default=cpu.cores(),
    source='the cores',
  )
  video: str = fields.path(
    'Folder for videos (MP4) of the first episodes; empty for none.',
    optional=True,
    default='',
    source='ours',
  )
  video_episodes: int = fields.count(
    'Episodes to make a video of, each of its first 9,000 steps.',
    default=1,
    source='ours',
  )
  csv: str = fields.path(
    'File that gets one more row; empty for evaluations.csv in the workdir.',
    optional=True,
    default='',
    source='ours',
  )
  env: str = fields.setting(
    "The run's environment once more, where it is module:function or of "
    'another package: code from a workdir is only run if it is named here, or '
    'by --trust_workdir.',
    "that of the run's config.json",
    default='',
    source='ours',
  )
  network: str = fields.setting(
    "The run's network once more, where it is module:function, as --env.",
    "that of the run's config.json",
    default='',
    source='ours',
  )
  trust_workdir: bool = fields.setting(
    "Import and call whatever the run's config.json names. Only for a workdir "
    'whose origin you trust.',
    default=False,
    source='ours',
  )


_LONGEST_VIDEO = 9_000  # Pictures: moviepy's time grows with their square.

_options = flags_lib.define_options(Options)


class Videos:
  """Films the first episodes. Checks all that can fail before that.

  What fails later costs a video and nothing else.
  """

  def __init__(
    self,
    env: gymnasium.vector.VectorEnv,
    folder: str,
    episodes: int,
    label: str,
    album: str,
  ):
    """Prepares the folder, and makes a video of one frame to see if it works.

    Args:
      env: which is reset and rendered once.
      folder: for the videos.
      episodes: how many are filmed.
      label: with which their names begin.
      album: folder for pictures until the episode has ended.

    Raises:
      UsageError: if moviepy or ffmpeg is missing, the environment cannot be
        rendered, or the folder cannot be written to.
    """
    try:
      from gymnasium.utils import save_video
      from PIL import Image
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
      raise errors.UsageError(
        f'--video={paths.as_given(folder)}: needs moviepy; '
        "pip install 'moviepy>=2.2,<3'"
      ) from error
    except Exception as error:  # Without ffmpeg, moviepy does not import.
      raise errors.UsageError(
        f'--video={paths.as_given(folder)}: {_in_one_line(error)}; allowed: '
        'where moviepy and ffmpeg work'
      ) from error
    self._save_video = save_video.save_video
    self._label = label
    self._save_picture = lambda pixels, path: Image.fromarray(pixels).save(path)
    self._files = {index: [] for index in range(episodes)}
    self._album = album  # On disk: ten minutes of Atari are a gigabyte.
    try:
      self._fps = env.metadata.get('render_fps', 30)
      env.reset(seed=evaluation.episode_seed(0, 0))
      frame = self._frame(env, f'{album}/first.png')
      self._folder = paths.make_folder(folder, flag='video')
      self._encode([frame, frame], 0)
    except errors.UsageError:
      raise
    except Exception as error:  # Whatever a renderer or ffmpeg raises.
      raise errors.UsageError(
        f'--video={paths.as_given(folder)}: {_in_one_line(error)}; allowed: '
        'environments that render rgb_array, and a folder that ffmpeg can '
        'write to'
      ) from error

  def _frame(self, env, path) -> str:
    frame = np.asarray(env.render()[0])
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
      raise ValueError(
        f'renders {list(frame.shape)} {frame.dtype}, expected [H, W, 3] uint8'
      )
    self._save_picture(frame, path)
    return path

  def _encode(self, files, index, path=None) -> None:
    """Makes a video, and moves it to the path, if there is one."""
    with tempfile.TemporaryDirectory(dir=self._folder) as folder:
      self._save_video(
        files,
        folder,
        episode_trigger=lambda episode: True,
        episode_index=index,
        name_prefix=self._label,
        fps=self._fps,
      )
      video = f'{folder}/{self._label}-episode-{index}.mp4'
      os.stat(video)  # It is there.
      if path:
        os.replace(video, path)

  def picture(self, index: int, env: gymnasium.vector.VectorEnv) -> None:
    """Takes a picture, if this episode is filmed."""
    files = self._files.get(index)
    if files is None or len(files) >= _LONGEST_VIDEO:
      return
    try:
      files.append(self._frame(env, f'{self._album}/{index}-{len(files)}.png'))
    except Exception as error:
      self._give_up(index, self._files.pop(index), error)

  def write(self, index: int) -> None:
    """Writes the video of an episode that has ended, if it was filmed."""
    files = self._files.pop(index, None)
    if files is None:
      return
    path = self._folder / f'{self._label}-episode-{index}.mp4'
    try:
      self._encode(files, index, path)
      for picture in files:
        os.remove(picture)
    except Exception as error:
      self._give_up(index, files, error)
    else:
      print(f'video in {paths.as_given(path)}')

  def _give_up(self, index, files, error) -> None:
    for path in files:
      pathlib.Path(path).unlink(missing_ok=True)
    print(
      f'warning: no video of episode {index}: {_in_one_line(error)}', flush=True
    )


def _in_one_line(error: Exception) -> str:
  text = boundary.describe(error)
  return text if len(text) <= 300 else text[:300] + '…'


class Table:
  """A CSV file that gets one row per evaluation."""

  columns = (
    'algo',
    'env',
    'seed',
    'frames',
    'protocol',
    'policy',
    'eval_seed',
    *evaluation.Summary._fields,
    'human_normalized',
  )
  # Files of earlier versions keep the columns that they have.
  _earlier = tuple(name for name in columns if name != 'truncated_episodes')

  def __init__(self, path: pathlib.Path, *, follow: bool):
    """Checks that the file can take a row.

    Args:
      path: of the file.
      follow: whether it may be a link to another one.

    Raises:
      UsageError: if it cannot be written to, or has other columns.
    """
    self._path = path
    # No waiting at a pipe.
    self._flags = os.O_APPEND | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    problem = None
    try:
      with self._open(os.O_RDWR) as file:
        lines = csv.reader(io.TextIOWrapper(file, 'utf-8', newline=''))
        header = next(lines, None)
        if header == [*self._earlier]:
          self.columns = self._earlier
        elif header not in (None, [*self.columns]):
          problem = 'has other columns'
    except FileNotFoundError:
      if not path.parent.is_dir():
        problem = f'{paths.as_given(path.parent)} is not a folder'
      elif path.is_symlink():
        problem = 'is a link to nothing'
      elif not os.access(path.parent, os.W_OK | os.X_OK):
        problem = 'no permission to write to it'
    except OSError as error:
      problem = self._problem(error)
    except (UnicodeDecodeError, csv.Error):
      problem = 'is no CSV file'
    if problem:
      raise errors.UsageError(
        f'--csv={paths.as_given(path)}: {problem}; allowed: a file to write, '
        'new or of this script'
      )

  def add(self, row) -> None:
    """Adds a row, after the names of the columns if the file is empty.

    Raises:
      RunError: if it cannot be written; the file is as it was.
    """
    try:
      with self._open(os.O_RDWR | os.O_CREAT) as file:
        end = file.seek(0, os.SEEK_END)
        text = io.StringIO(newline='')
        rows = csv.DictWriter(text, self.columns, extrasaction='ignore')
        if not end:
          rows.writeheader()
        rows.writerow(tables.as_cells(row))
        content = text.getvalue().encode()
        if end:
          file.seek(end - 1)
          if file.read(1) != b'\n':  # A row that was never finished.
            content = b'\r\n' + content
        try:
          files.write_all(file, content)
        except OSError:
          file.truncate(end)
          raise
    except OSError as error:
      raise errors.RunError(
        f'--csv={paths.as_given(self._path)}: {self._problem(error)}; the '
        'result is printed above, but has no row'
      ) from error
    print(f'row in {paths.as_given(self._path)}', flush=True)

  def _open(self, flags) -> io.FileIO:
    """The file, without a buffer that would be written once more at the end."""
    file = os.open(self._path, flags | self._flags, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
      os.close(file)
      raise OSError(errno.EINVAL, 'is no file')
    return open(file, 'rb+', buffering=0)

  def _problem(self, error) -> str:
    is_link = error.errno == errno.ELOOP and self._flags & os.O_NOFOLLOW
    return 'is a link, which is not followed' if is_link else error.strerror


def _check_epsilon(options, algorithm) -> None:
  given = options.exploration_epsilon != policy_lib.EXPLORATION_EPSILON
  if given and (algorithm.is_policy or options.policy != 'sample'):
    raise errors.UsageError(
      f'--exploration_epsilon={options.exploration_epsilon:g}: allowed for '
      'value-based algorithms with --policy=sample'
    )


def _check_policy(options, env, space) -> None:
  continuous = isinstance(space, gymnasium.spaces.Box)
  allowed = ('sample', 'mean' if continuous else 'greedy')
  if options.policy not in allowed:
    raise errors.UsageError(
      f'--policy={options.policy}: allowed for {env}: {", ".join(allowed)}'
    )


def _check_code(options, config) -> None:
  """Checks that the user names all code of the run that will be imported."""
  code = config_lib.code_named(config)
  if options.trust_workdir and code:
    command_line.find_users_modules()
  for flag, is_ in (
    ('env', config.env_name),
    ('network', config.network),
  ):
    given = getattr(options, flag)
    if given and given != is_:
      raise errors.UsageError(
        f'--{flag}={given}: the run has {is_}; allowed: that, or no --{flag}'
      )
    if given:
      code.pop(flag, None)
  if not options.trust_workdir:
    loading.refuse_code(pathlib.Path(options.workdir), code)


def _make_env(options, config, protocol):
  request = domain_lib.EnvRequest(protocol=protocol, render=bool(options.video))
  try:
    return build.make_env(config, request)
  except errors.UsageError:
    raise
  except Exception as error:
    if not options.video:
      raise
    # Of an environment that knows no render_mode.
    raise errors.UsageError(
      f'--video={paths.as_given(options.video)}: {_in_one_line(error)}; '
      'allowed: environments that render rgb_array'
    ) from error


def _check_spaces(options, env, found, of_run) -> None:
  for name, space in found._asdict().items():
    was = getattr(of_run, name)
    if (space.shape, space.dtype) != (was.shape, was.dtype) or (
      getattr(space, 'n', 0) != getattr(was, 'n', 0)
    ):
      raise errors.UsageError(
        f'--workdir={paths.as_given(options.workdir)}: the '
        f'{name.replace("_", " ")} space of {env} is {space}, the run has '
        f'{was}; allowed: the environment as the run had it'
      )


def _describe(summary, config, *, protocol, policy, max_frames) -> str:
  game = config.env_name
  how = domain_lib.get(config.domain).protocols[protocol]
  error = ''
  if summary.episodes > 1:
    error = f'standard error {summary.standard_error:.2f}, '
  truncated = []
  if summary.truncated_episodes:
    truncated.append(
      f'{summary.truncated_episodes} of {summary.episodes} episodes were '
      f'truncated, at {max_frames:,} frames (--max_eval_episode_frames)'
    )
  lines = [
    f'{summary.episodes} episodes, {protocol}: {how}',
    *truncated,
    f'actions: {policy}; raw scores',
    f'mean {summary.mean_return:.2f}, {error}median '
    f'{summary.median_return:.2f}, from {summary.lowest_return:.2f} to '
    f'{summary.highest_return:.2f}',
  ]
  reference = reference_scores.reference(game, protocol)
  if reference:
    percent = reference_scores.human_normalized(summary.mean_return, reference)
    lines.append(
      f'human-normalised: {percent:.1f}% (0% is the random score '
      f'{reference.random:g}, 100% the human score {reference.human:g}, both '
      'after up to 30 no-ops)'
    )
  elif protocol == 'sticky':
    lines.append('human-normalised: no human scores with sticky actions exist')
  elif protocol == 'noop30':
    lines.append(f'human-normalised: no human score of {game} is known')
  return '\n'.join(lines)


def main() -> None:
  options = _options()
  fields.check_settings(options)
  workdir = pathlib.Path(options.workdir)
  config = workdir_lib.read_config(workdir)
  game = config.env_name
  protocol = options.protocol
  if protocol == 'auto':
    protocol = config.eval_protocol
  config_lib.check_protocol(config, protocol, flag='protocol')
  algorithm = registry.get(config.algo)
  _check_epsilon(options, algorithm)
  _check_code(options, config)
  loaded = loading.load(
    workdir,
    checkpoint=options.checkpoint,
    greedy=options.policy != 'sample',
    exploration_epsilon=options.exploration_epsilon,
    trust=True,  # Checked above.
  )
  policy = loaded.learner_policy
  # A workdir of somebody else must not choose what is written to.
  table = Table(
    pathlib.Path(options.csv or workdir / 'evaluations.csv'),
    follow=bool(options.csv),
  )
  with contextlib.ExitStack() as stack:
    with replayable.without_exit():
      make_env = _make_env(options, config, protocol)
    closes = []
    stack.callback(workers.close, closes, seconds=config.watchdog_seconds)
    envs = []
    for _ in range(min(options.threads, options.episodes)):
      with replayable.without_exit():
        envs.append(replayable.Recorded(make_env()))
      closes.append(envs[-1].close)
    _check_policy(options, game, envs[0].single_action_space)
    _check_spaces(options, game, spaces_lib.of(envs[0]), loaded.spaces)
    videos = None
    if options.video:
      label = f'{workdir.resolve().name}-frame{policy.frames}'
      try:
        album = stack.enter_context(tempfile.TemporaryDirectory())
      except OSError as error:
        raise errors.RunError(
          f'--video={paths.as_given(options.video)}: no folder for pictures: '
          f'{error.strerror}'
        ) from error
      videos = Videos(
        envs[0], options.video, options.video_episodes, label, album
      )
    print(f'parameters of frame {policy.frames:,}', flush=True)

    def on_episode(index, episode):
      outcome = f'return {episode.raw_return:g}, {episode.steps:,} steps'
      truncated = ', truncated' if episode.truncated else ''
      print(f'episode {index}: {outcome}{truncated}', flush=True)
      if videos:
        videos.write(index)

    episodes = evaluation.play_all(
      envs,
      policy,
      episodes=options.episodes,
      seed=options.seed,
      max_steps=evaluation.most_steps(
        options.max_eval_episode_frames, config.action_repeat
      ),
      on_step=videos.picture if videos else lambda index, env: None,
      on_episode=on_episode,
    )
    summary = evaluation.summarize(episodes)
    actions = algorithm.describe_policy(
      options.policy, exploration_epsilon=options.exploration_epsilon
    )
    text = _describe(
      summary,
      config,
      protocol=protocol,
      policy=actions,
      max_frames=options.max_eval_episode_frames,
    )
    print(text, flush=True)
    reference = reference_scores.reference(game, protocol)
    # Before environments are closed, which may take its time.
    table.add(
      {
        'algo': config.algo,
        'env': game,
        'seed': config.seed,
        'frames': policy.frames,
        'protocol': protocol,
        'policy': actions,
        'eval_seed': options.seed,
        'human_normalized': reference
        and reference_scores.human_normalized(summary.mean_return, reference),
        **summary._asdict(),
      }
    )


if __name__ == '__main__':
  command_line.run(main)
