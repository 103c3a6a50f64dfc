"""Evaluates the trained policy of a run; learns nothing.

python experiments/evaluate.py --workdir=runs/pong-a3c-... --episodes=30
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import pathlib
import tempfile

import gymnasium

from a3c_jax import agents, checks, evaluation, loading, published
from a3c_jax import config as config_lib
from a3c_jax import workdir as workdir_lib
import a3c_jax.flags

_PROTOCOLS = {
  'noop30': '0 to 30 no-ops first, whole games of at most 108,000 frames',
  'sticky': 'actions repeat with probability 0.25 per frame, no no-ops, whole '
  'games of at most 108,000 frames',
  'plain': 'the environment as it is',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What to evaluate, and how."""

  workdir: str = checks.path(
    'Folder of the run.', default='', source='has to be given'
  )
  checkpoint: str = checks.setting(
    'latest, best (by the evaluations during training), or its frames.',
    'latest, best, or a count of frames',
    lambda value: value in ('latest', 'best') or value.isdecimal(),
    default='latest',
    source='paper, section 5.1, evaluates the final weights',
  )
  episodes: int = checks.count('Episodes.', default=30, source='ours')
  protocol: str = checks.one_of(
    'noop30 (0 to 30 no-ops first) or sticky (actions repeat with probability '
    "0.25) for Atari, plain for the rest; auto is that of the run's own "
    'evaluations.',
    ('auto', *_PROTOCOLS),
    default='auto',
    source='ours',
  )
  policy: str = checks.one_of(
    'sample from the policy, epsilon-greedily if it is value-based, or take '
    'the best action: greedy, or mean if actions are continuous.',
    evaluation.POLICIES,
    default='sample',
    source='paper, section 4',
  )
  exploration_epsilon: float = checks.fraction(
    'Epsilon of a value-based policy that is not greedy.',
    default=evaluation.EXPLORATION_EPSILON,
    source='Mnih et al. 2015',
  )
  seed: int = checks.setting(
    'Seed of games and actions.',
    '0 to 2147483647',
    lambda value: 0 <= value < 2**31,
    default=0,
    source='ours',
  )
  threads: int = checks.count(
    'Episodes that are played at once.',
    most=1000,
    default=config_lib.cores(),
    source='the cores',
  )
  video: str = checks.path(
    'Folder for videos (MP4) of the first episodes; empty for none.',
    optional=True,
    default='',
    source='ours',
  )
  video_episodes: int = checks.count(
    'Episodes to make a video of, each of its first 9,000 steps.',
    default=1,
    source='ours',
  )
  csv: str = checks.path(
    'File that gets one more row; empty for evaluations.csv in the workdir.',
    optional=True,
    default='',
    source='ours',
  )


_LONGEST_VIDEO = 9_000  # Pictures: moviepy's time grows with their square.

_options = a3c_jax.flags.define_options(Options)


class Videos:
  """Films the first episodes. Checks all that can fail before that."""

  def __init__(self, folder: str, episodes: int, label: str, album: str):
    """Prepares the folder.

    Args:
      folder: for the videos.
      episodes: how many are filmed.
      label: with which their names begin.
      album: folder for pictures until the episode has ended.

    Raises:
      UsageError: if moviepy is missing, or the folder cannot be written to.
    """
    try:
      from gymnasium.utils import save_video
      from PIL import Image
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
      raise checks.UsageError(
        f"--video={folder}: needs moviepy; pip install 'moviepy>=2.2,<3'"
      ) from error
    self._save_video = save_video.save_video
    self._folder = checks.make_folder(folder, flag='video')
    self._label = label
    self._fps = None
    self._save_picture = lambda pixels, path: Image.fromarray(pixels).save(path)
    self._files = {index: [] for index in range(episodes)}
    self._album = album  # On disk: ten minutes of Atari are a gigabyte.

  def picture(self, index: int, env: gymnasium.vector.VectorEnv) -> None:
    """Takes a picture, if this episode is filmed."""
    files = self._files.get(index)
    if files is not None and len(files) < _LONGEST_VIDEO:
      path = f'{self._album}/{index}-{len(files)}.png'
      self._save_picture(env.render()[0], path)
      files.append(path)
      self._fps = env.metadata.get('render_fps', 30)

  def write(self, index: int) -> None:
    """Writes the video of an episode that has ended, if it was filmed."""
    files = self._files.pop(index, None)
    if files is None:
      return
    self._save_video(
      files,
      str(self._folder),
      episode_trigger=lambda episode: True,
      episode_index=index,
      name_prefix=self._label,
      fps=self._fps,
    )
    for path in files:
      os.remove(path)
    folder = checks.as_given(self._folder)
    print(f'video in {folder}/{self._label}-episode-{index}.mp4')


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

  def __init__(self, path: pathlib.Path):
    """Checks that the file can take a row.

    Raises:
      UsageError: if it cannot be written to, or has other columns.
    """
    self._path = path
    problem = None
    try:
      with path.open(newline='') as file:
        if next(csv.reader(file), None) not in (None, [*self.columns]):
          problem = 'has other columns'
    except FileNotFoundError:
      if not path.parent.is_dir():
        problem = f'{checks.as_given(path.parent)} is no folder'
    except OSError as error:
      problem = error.strerror
    except (UnicodeDecodeError, csv.Error):
      problem = 'is no CSV file'
    there = os.path.exists(path)
    if not os.access(path if there else path.parent, os.W_OK):
      problem = problem or 'no permission to write to it'
    if problem:
      raise checks.UsageError(
        f'--csv={checks.as_given(path)}: {problem}; allowed: a file to write, '
        'new or of this script'
      )

  def add(self, row) -> None:
    """Adds a row, after the names of the columns if the file is empty."""
    with self._path.open('a', newline='') as file:
      rows = csv.DictWriter(file, self.columns)
      if not file.tell():
        rows.writeheader()
      rows.writerow(row)
    print(f'row in {checks.as_given(self._path)}')


def _check_epsilon(options, algo) -> None:
  given = options.exploration_epsilon != evaluation.EXPLORATION_EPSILON
  if given and (algo == 'a3c' or options.policy != 'sample'):
    raise checks.UsageError(
      f'--exploration_epsilon={options.exploration_epsilon:g}: allowed for '
      'value-based algorithms with --policy=sample'
    )


def _check_policy(options, env, space) -> None:
  continuous = isinstance(space, gymnasium.spaces.Box)
  allowed = ('sample', 'mean' if continuous else 'greedy')
  if options.policy not in allowed:
    raise checks.UsageError(
      f'--policy={options.policy}: allowed for {env}: {", ".join(allowed)}'
    )


def _describe(summary, game, protocol, policy) -> str:
  error = ''
  if summary.episodes > 1:
    error = f'standard error {summary.standard_error:.2f}, '
  lines = [
    f'{summary.episodes} episodes, {protocol}: {_PROTOCOLS[protocol]}',
    f'actions: {policy}; raw scores',
    f'mean {summary.mean_return:.2f}, {error}median '
    f'{summary.median_return:.2f}, from {summary.lowest_return:.2f} to '
    f'{summary.highest_return:.2f}',
  ]
  reference = published.reference(game, protocol)
  if reference:
    percent = published.human_normalized(summary.mean_return, reference)
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
  checks.check_settings(options)
  workdir = pathlib.Path(options.workdir)
  config = workdir_lib.read_config(workdir)
  game = config.environment['name']
  protocol = options.protocol
  if protocol == 'auto':
    protocol = config.eval_protocol
  config_lib.check_protocol(config, protocol, flag='protocol')
  _check_epsilon(options, config.algo)
  policy = loading.load(
    workdir,
    checkpoint=options.checkpoint,
    greedy=options.policy != 'sample',
    exploration_epsilon=options.exploration_epsilon,
  )
  table = Table(pathlib.Path(options.csv or workdir / 'evaluations.csv'))
  with contextlib.ExitStack() as stack:
    videos = None
    if options.video:
      label = f'{workdir.resolve().name}-frame{policy.frames}'
      album = stack.enter_context(tempfile.TemporaryDirectory())
      videos = Videos(options.video, options.video_episodes, label, album)
    make_env = agents.make_env(config, protocol=protocol, film=bool(videos))
    envs = []
    for _ in range(min(options.threads, options.episodes)):
      envs.append(make_env())
      stack.callback(envs[-1].close)
    _check_policy(options, game, envs[0].single_action_space)
    print(f'parameters of frame {policy.frames:,}', flush=True)

    def on_episode(index, episode):
      outcome = f'return {episode.raw_return:g}, {episode.steps:,} steps'
      print(f'episode {index}: {outcome}', flush=True)
      if videos:
        videos.write(index)

    episodes = evaluation.play_all(
      envs,
      policy,
      episodes=options.episodes,
      seed=options.seed,
      on_step=videos.picture if videos else lambda index, env: None,
      on_episode=on_episode,
    )
  summary = evaluation.summarize(episodes)
  actions = evaluation.describe_policy(
    config.algo,
    policy=options.policy,
    exploration_epsilon=options.exploration_epsilon,
  )
  print(_describe(summary, game, protocol, actions))
  reference = published.reference(game, protocol)
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
      and published.human_normalized(summary.mean_return, reference),
      **summary._asdict(),
    }
  )


if __name__ == '__main__':
  a3c_jax.flags.run(main)
