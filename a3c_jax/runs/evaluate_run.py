"""Evaluates the trained policy of a run, after training or while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import tempfile
from typing import Any

import gymnasium

from a3c_jax.algorithms import registry
from a3c_jax.core import cpu, errors, fields, paths, threads
from a3c_jax.envs import domain as domain_lib
from a3c_jax.envs import reference_scores, replayable
from a3c_jax.envs import spaces as spaces_lib
from a3c_jax.runs import evaluation, evaluations_csv, loading, model_file
from a3c_jax.runs import policy as policy_lib
from a3c_jax.runs import video as video_lib
from a3c_jax.settings import build
from a3c_jax.settings import config as config_lib
from a3c_jax.settings.common import MAX_EVAL_EPISODE_FRAMES, Config

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
  """What to evaluate, and how; a flag of the script for each."""

  workdir: str = fields.path(
    'Folder of the run, or of a model.', default='', source='has to be given'
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
    "0.25) for Atari, plain for the rest. auto is that of the run's own "
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
    'Episodes that run at once.',
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
    'Episodes that get a video, each of its first 9,000 steps.',
    default=1,
    source='ours',
  )
  csv: str = fields.path(
    'File that gets one more row; empty for evaluations.csv in the workdir, or '
    'for none if it is of a model.',
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


def run(options: Options, config: Config) -> evaluation.Summary:
  """Evaluates a policy, logs the result and adds it to a CSV file.

  Without `options.csv`, the scores that a model came with stay as they are.

  Args:
    options: valid by themselves.
    config: of the run in `options.workdir`.

  Raises:
    UsageError: naming the flag, if the options do not fit the run, its code
      needs to be trusted, or there is no such checkpoint.
    RunError: if the result cannot be written.
  """
  workdir = pathlib.Path(options.workdir)
  protocol = options.protocol
  if protocol == 'auto':
    protocol = config.eval_protocol
  config_lib.check_protocol(config, protocol, flag='protocol')
  _check_epsilon(options, config)
  _check_code(options, config)
  loaded = loading.load(
    workdir,
    checkpoint=options.checkpoint,
    greedy=options.policy != 'sample',
    exploration_epsilon=options.exploration_epsilon,
    trust=True,  # Checked above.
  )
  file = None
  if options.csv or not model_file.is_model(workdir):
    # A workdir of somebody else must not choose what is written to.
    file = evaluations_csv.EvaluationsFile(
      pathlib.Path(options.csv or workdir / 'evaluations.csv'),
      follow=bool(options.csv),
    )
  with contextlib.ExitStack() as stack:
    envs = _make_envs(options, config, protocol, stack)
    _check_policy(options, config.env_name, envs[0].single_action_space)
    _check_spaces(options, config.env_name, envs[0], loaded.spaces)
    recorder = None
    if options.video:
      label = f'{workdir.resolve().name}-frame{loaded.frames}'
      recorder = _make_recorder(options, envs[0], label, stack)
    _logger.info('parameters of frame %s', f'{loaded.frames:,}')
    summary = _play(
      envs,
      loaded.learner_policy,
      options=options,
      config=config,
      recorder=recorder,
    )
    row = _row(summary, options, config, protocol=protocol)
    _logger.info('%s', _describe(summary, row, options, config))
    if file:
      # Before environments are closed, which may take its time.
      file.add(row | {'frames': loaded.frames})
  return summary


def _check_epsilon(options, config) -> None:
  given = options.exploration_epsilon != policy_lib.EXPLORATION_EPSILON
  is_policy = registry.get(config.algo).is_policy
  if given and (is_policy or options.policy != 'sample'):
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


def _check_spaces(options, name, env, of_run) -> None:
  for kind, space in spaces_lib.of(env)._asdict().items():
    was = getattr(of_run, kind)
    if (space.shape, space.dtype) != (was.shape, was.dtype) or (
      getattr(space, 'n', 0) != getattr(was, 'n', 0)
    ):
      raise errors.UsageError(
        f'--workdir={paths.as_given(options.workdir)}: the '
        f'{kind.replace("_", " ")} space of {name} is {space}, the run has '
        f'{was}; allowed: the environment as the run had it'
      )


def _make_envs(options, config, protocol, stack) -> list[replayable.Recorded]:
  """As many environments as play at once, which the stack closes."""
  with replayable.without_exit():
    make_env = _env_maker(options, config, protocol)
  closes = []
  stack.callback(threads.close, closes, seconds=config.watchdog_seconds)
  envs = []
  for _ in range(min(options.threads, options.episodes)):
    with replayable.without_exit():
      envs.append(replayable.Recorded(make_env()))
    closes.append(envs[-1].close)
  return envs


def _env_maker(options, config, protocol):
  request = domain_lib.EnvRequest(protocol=protocol, render=bool(options.video))
  try:
    return build.make_env(config, request)
  except errors.UsageError:
    raise
  except Exception as error:
    if not options.video:
      raise
    # Of an environment that has no such render_mode.
    raise errors.UsageError(
      f'--video={paths.as_given(options.video)}: '
      f'{video_lib.in_one_line(error)}; allowed: environments that render '
      'rgb_array'
    ) from error


def _make_recorder(options, env, label, stack) -> video_lib.VideoRecorder:
  try:
    temporary = stack.enter_context(tempfile.TemporaryDirectory())
  except OSError as error:
    raise errors.RunError(
      f'--video={paths.as_given(options.video)}: no folder for frames: '
      f'{error.strerror}'
    ) from error
  return video_lib.VideoRecorder(
    env,
    options.video,
    episodes=options.video_episodes,
    label=label,
    temporary=temporary,
  )


def _play(envs, policy, *, options, config, recorder) -> evaluation.Summary:
  def on_episode(index, episode):
    outcome = f'return {episode.raw_return:g}, {episode.steps:,} steps'
    truncated = ', truncated' if episode.truncated else ''
    _logger.info('episode %d: %s%s', index, outcome, truncated)
    if recorder:
      recorder.on_episode(index)

  episodes = evaluation.play_all(
    envs,
    policy,
    episodes=options.episodes,
    seed=options.seed,
    max_steps=evaluation.most_steps(
      options.max_eval_episode_frames, config.action_repeat
    ),
    on_step=recorder.on_step if recorder else lambda index, env: None,
    on_episode=on_episode,
  )
  return evaluation.summarize(episodes)


def _row(summary, options, config, *, protocol) -> dict[str, Any]:
  """A row of evaluations.csv, but for its frames."""
  return {
    'algo': config.algo,
    'env': config.env_name,
    'seed': config.seed,
    'protocol': protocol,
    'policy': registry.get(config.algo).describe_policy(
      options.policy, exploration_epsilon=options.exploration_epsilon
    ),
    'eval_seed': options.seed,
    **summary._asdict(),
    'human_normalized': reference_scores.normalized(
      config.env_name, protocol, summary.mean_return
    ),
  }


def _describe(summary, row, options, config) -> str:
  protocol = row['protocol']
  how = domain_lib.get(config.domain).protocols[protocol]
  error = ''
  if summary.episodes > 1:
    error = f'standard error {summary.standard_error:.2f}, '
  truncated = []
  if summary.truncated_episodes:
    truncated.append(
      f'{summary.truncated_episodes} of {summary.episodes} episodes were '
      f'truncated, at {options.max_eval_episode_frames:,} frames '
      '(--max_eval_episode_frames)'
    )
  return '\n'.join(
    [
      f'{summary.episodes} episodes, {protocol}: {how}',
      *truncated,
      f'actions: {row["policy"]}; raw scores',
      f'mean {summary.mean_return:.2f}, {error}median '
      f'{summary.median_return:.2f}, from {summary.lowest_return:.2f} to '
      f'{summary.highest_return:.2f}',
      *_describe_scale(config.env_name, protocol, row['human_normalized']),
    ]
  )


def _describe_scale(game, protocol, percent) -> list[str]:
  reference = reference_scores.reference(game, protocol)
  if reference:
    return [
      f'human-normalised: {percent:.1f}% (0% is the random score '
      f'{reference.random:g}, 100% the human score {reference.human:g}, both '
      'after up to 30 no-ops)'
    ]
  reasons = {
    'sticky': 'no human scores with sticky actions exist',
    'noop30': f'no human score of {game} is known',
  }
  if protocol not in reasons:
    return []
  return [f'human-normalised: {reasons[protocol]}']
