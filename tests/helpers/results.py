"""What runs leave, read back."""

import csv
import hashlib
import json

import jax
import numpy as np


def read_rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def read_record(workdir):
  """What config.json says of a run."""
  return json.loads((workdir / 'config.json').read_text())


def change_record(workdir, **changes):
  """Changes config.json: the record itself, or else the settings in it."""
  record = read_record(workdir)
  for name, value in changes.items():
    where = record if name in record else record['config']
    where[name] = value
  (workdir / 'config.json').write_text(json.dumps(record))


def same_episodes(*workdirs):
  """Checks that runs have the same episodes, whenever these ended."""
  tables = [read_rows(workdir / 'episodes.csv') for workdir in workdirs]
  for row in (row for table in tables for row in table):
    del row['seconds']
  assert tables[0] != []
  assert all(table == tables[0] for table in tables)


def digest(params):
  """A hash of all bits of all parameters."""
  leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]
  return hashlib.sha256(b''.join(leaves)).hexdigest()


def size_of(film):
  """Width and height, and seconds."""
  from moviepy.video.io.VideoFileClip import VideoFileClip

  with VideoFileClip(str(film)) as clip:
    return clip.size, clip.duration
