"""Installs a3c_jax."""

import pathlib

import setuptools

# Of labmaze, which dm_control requires too, there are no wheels for newer ones
# of Python.
LABYRINTH = [
  'vizdoom==1.3.2; python_version < "3.13"',
  'labmaze==1.0.6; python_version < "3.13"',
]
# Newer ones of MuJoCo fail in dm_control. Gymnasium needs more than MuJoCo.
MUJOCO = [
  'mujoco==3.17.0',
  'gymnasium[mujoco]',
  'dm-control==1.0.50; python_version < "3.13"',
  'shimmy>=2.0.1,<3; python_version < "3.13"',
]
PLOT = ['matplotlib>=3.10,<4']
VIDEO = ['moviepy>=2.2,<3']

setuptools.setup(
  name='a3c_jax',
  version='0.1.0',
  description='Asynchronous deep reinforcement learning in JAX, on the CPU.',
  long_description=pathlib.Path(__file__).with_name('README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['a3c_jax', 'a3c_jax.*']),
  package_data={
    'a3c_jax': ['data/*.csv', 'envs/torcs/*.cpp', 'envs/torcs/*.h']
  },
  python_requires='>=3.11',
  # The lowest were tried with Python 3.11, the highest with 3.13.
  install_requires=[
    'absl-py>=2.5,<3',
    'ale-py>=0.12.1,<0.13',
    'flax>=0.12.8,<0.13',
    'gymnasium>=1.4,<1.5',
    'jax>=0.10.2,<0.13',
    'numpy>=2.4,<3',
    'optax>=0.2.8,<0.3',
    'rich>=15,<16',
    'tensorboardX>=2.6.5,<3',
  ],
  extras_require={
    'labyrinth': LABYRINTH,
    'mujoco': MUJOCO,
    'plot': PLOT,
    'video': VIDEO,
    'test': [
      # What it finds depends on its version, as with ruff.
      'basedpyright==1.40.2',
      'hypothesis>=6.170,<7',
      'import-linter>=2.16,<3',
      'pytest>=9.2,<10',
      'pytest-xdist>=3.8,<4',
      'rlax>=0.1.9,<0.2',
      'ruff==0.17.5',
      *LABYRINTH,
      *MUJOCO,
      *PLOT,
      *VIDEO,
    ],
  },
)
