"""What runs leave, read back."""

import csv
import hashlib

import jax
import numpy as np


def read_rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def digest(params):
  """A hash of all bits of all parameters."""
  leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
  return hashlib.sha256(b''.join(leaves)).hexdigest()


def size_of(film):
  """Width and height, and seconds."""
  from moviepy.video.io.VideoFileClip import VideoFileClip

  with VideoFileClip(str(film)) as clip:
    return clip.size, clip.duration
