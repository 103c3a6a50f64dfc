"""Videos of episodes, as MP4."""

from __future__ import annotations

import logging
import os
import pathlib
import tempfile

import gymnasium
import numpy as np

from a3c_jax.core import errors, paths
from a3c_jax.envs import boundary
from a3c_jax.runs import evaluation

_MOST_FRAMES = 9_000  # The time of moviepy grows with their square.
_logger = logging.getLogger(__name__)


class VideoRecorder:
  """Makes videos of the first episodes of an evaluation.

  It first checks all that can fail. A failure after that costs one video: it is
  logged, and the episode goes to its end.
  """

  def __init__(
    self,
    env: gymnasium.vector.VectorEnv,
    folder: str,
    *,
    episodes: int,
    label: str,
    temporary: str,
  ):
    """Makes the folder, and tries a video of one frame.

    Args:
      env: is reset and rendered once.
      folder: for the videos.
      episodes: how many get a video.
      label: with which the names of videos begin.
      temporary: folder for frames until their episode has ended.

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
        f'--video={paths.as_given(folder)}: {in_one_line(error)}; allowed: '
        'where moviepy and ffmpeg work'
      ) from error
    self._save_video = save_video.save_video
    self._label = label
    self._save_frame = lambda pixels, path: Image.fromarray(pixels).save(path)
    self._files: dict[int, list[str]] = {i: [] for i in range(episodes)}
    self._temporary = temporary  # On disk: ten minutes of Atari are a gigabyte.
    try:
      self._fps = env.metadata.get('render_fps', 30)
      env.reset(seed=evaluation.episode_seed(0, 0))
      frame = self._render(env, f'{temporary}/first.png')
      self._folder = paths.make_folder(folder, flag='video')
      self._encode([frame, frame], 0)
    except errors.UsageError:
      raise
    except Exception as error:  # Whatever a renderer or ffmpeg raises.
      raise errors.UsageError(
        f'--video={paths.as_given(folder)}: {in_one_line(error)}; allowed: '
        'environments that render rgb_array, and a folder that ffmpeg can '
        'write to'
      ) from error

  def _render(self, env, path) -> str:
    frame = np.asarray(env.render()[0])
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
      raise ValueError(
        f'renders {list(frame.shape)} {frame.dtype}, expected [H, W, 3] uint8'
      )
    self._save_frame(frame, path)
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

  def on_step(self, index: int, env: gymnasium.vector.VectorEnv) -> None:
    """Renders a frame, if this episode gets a video."""
    files = self._files.get(index)
    if files is None or len(files) >= _MOST_FRAMES:
      return
    path = f'{self._temporary}/{index}-{len(files)}.png'
    try:
      files.append(self._render(env, path))
    except Exception as error:
      self._give_up(index, self._files.pop(index), error)

  def on_episode(self, index: int) -> None:
    """Writes the video of an episode that has ended, if it gets one."""
    files = self._files.pop(index, None)
    if files is None:
      return
    path = self._folder / f'{self._label}-episode-{index}.mp4'
    try:
      self._encode(files, index, path)
      for file in files:
        os.remove(file)
    except Exception as error:
      self._give_up(index, files, error)
    else:
      _logger.info('video in %s', paths.as_given(path))

  def _give_up(self, index, files, error) -> None:
    for path in files:
      pathlib.Path(path).unlink(missing_ok=True)
    _logger.warning('no video of episode %d: %s', index, in_one_line(error))


def in_one_line(error: Exception) -> str:
  """The text of an error, at most 300 characters of it."""
  text = boundary.describe(error)
  return text if len(text) <= 300 else text[:300] + '…'
