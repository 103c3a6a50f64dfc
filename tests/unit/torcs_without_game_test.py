"""TORCS on a machine on which it is not installed."""

import dataclasses
import json
import math
import pathlib
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from a3c_jax.core import errors
from a3c_jax.envs import domain
from a3c_jax.envs.torcs import baseline, build, installed, races, racing
from a3c_jax.settings import config

ROOT = pathlib.Path(__file__).parents[2]


def test_the_docstring_lists_the_actions():
  rows = re.findall(r'\| (\d) \| ([a-z, ]+) \|', racing.Torcs.__doc__)
  assert [int(number) for number, _ in rows] == list(range(7))
  assert tuple(name for _, name in rows) == racing.ACTIONS


@pytest.mark.parametrize(
  'given',
  [
    {'track': ''},
    {'track': 3},
    {'car': None},
    {'opponents': -1},
    {'opponents': 11},
    {'opponents': True},
    {'camera': 'sky'},
    {'view_distance': 9.9},
    {'view_distance': math.inf},
    {'view_distance': math.nan},
    {'start': 'finish'},
    {'episode_seconds': None},
    {'episode_seconds': '60'},
    {'action_repeat': 0},
    {'action_repeat': 51},
  ],
)
def test_bad_options(given):
  ((name, value),) = given.items()
  for use in (
    lambda: racing.Torcs(**given),
    lambda: config.make('torcs', environment=racing.Options(**given)),
    lambda: racing.DOMAIN.make(racing.Options(**given)),
  ):
    with pytest.raises(errors.UsageError, match=f'^--{name}={value}: allowed:'):
      use()


def test_a_bad_render_mode():
  with pytest.raises(
    errors.UsageError, match='render_mode=human: allowed: None, rgb_array'
  ):
    racing.Torcs(render_mode='human')


def test_the_record_gives_the_options_back():
  options = racing.Options(car='fast', opponents=5, track='aalborg')
  record = json.loads(json.dumps(dataclasses.asdict(options)))
  assert domain.from_record(racing.Options, record) == options


def use_dpkg(monkeypatch, folder, script):
  """Replaces Debian's dpkg-query by `script`, and hides other programs."""
  path = folder / 'dpkg-query'
  path.write_text(f'#!/bin/sh\n{script}\n')
  path.chmod(0o700)
  monkeypatch.setenv('PATH', str(folder))
  monkeypatch.setattr(installed, 'programs', lambda: folder)


def test_another_version_is_refused_naming_both(monkeypatch, tmp_path):
  use_dpkg(monkeypatch, tmp_path, 'printf 1.3.8+dfsg-2')
  with pytest.raises(
    errors.UsageError, match=r'^TORCS 1\.3\.8\+dfsg-2 is .* allowed: 1\.3\.7,'
  ):
    racing.Torcs()
  with pytest.raises(errors.UsageError, match=r'^TORCS 1\.3\.8'):
    build.compile_plugin()


@pytest.mark.parametrize(
  'version', ['1.3.7', '1.3.7-1', '1.3.7+dfsg-5+b2', '1.3.7+dfsg-6build1']
)
def test_versions_of_debian_that_hold_the_same_game(
  monkeypatch, tmp_path, version
):
  use_dpkg(monkeypatch, tmp_path, f'printf {version}')
  installed.check_installed()
  monkeypatch.setattr(installed, 'plugin', lambda: tmp_path / 'missing.so')
  with pytest.raises(
    errors.UsageError,
    match='is not compiled: python -m a3c_jax.envs.torcs.build',
  ):
    racing.Torcs()


@pytest.mark.parametrize('script', ['exit 1', None])
def test_what_to_install(monkeypatch, tmp_path, script):
  if script:
    use_dpkg(monkeypatch, tmp_path, script)
  else:
    monkeypatch.setenv('PATH', str(tmp_path))
  message = 'TORCS is not installed; on Debian: apt-get install torcs g'
  with pytest.raises(errors.UsageError, match=message):
    racing.Torcs()


def test_other_systems(monkeypatch):
  monkeypatch.setattr(sys, 'platform', 'darwin')
  with pytest.raises(
    errors.UsageError, match='TORCS on darwin: allowed: linux'
  ):
    racing.Torcs()


def test_the_files_of_a_race(monkeypatch, tmp_path):
  data = tmp_path / 'data'
  for name in ('config/raceengine.xml', 'tracks/road/aalborg/aalborg.xml'):
    (data / name).parent.mkdir(parents=True)
    (data / name).touch()
  monkeypatch.setattr(installed, 'DATA', data)
  race = races.write(
    tmp_path / 'files',
    races.Options(track='aalborg', car='p406', opponents=2, camera='behind'),
    plugin=tmp_path / 'plugin.so',
    programs=tmp_path / 'programs',
  )
  root = ElementTree.parse(race).getroot()

  def value(*names):
    path = '/'.join(f'*[@name="{name}"]' for name in names)
    return root.find(path).get('val')

  track = [value('Tracks', '1', name) for name in ('name', 'category')]
  assert track == ['aalborg', 'road']
  drivers = [
    (value('Drivers', place, 'module'), value('Drivers', place, 'idx'))
    for place in '123'
  ]
  assert drivers == [('a3c_jax', '1'), ('bt', '0'), ('bt', '1')]
  assert value('Drivers', 'maximum number') == '3'
  root = ElementTree.parse(race.parents[1] / 'graph.xml').getroot()
  assert value('Graphic', 'fov factor') == '0.25'  # 150 of 600 m.
  assert value('Display Mode', '0', 'camera head list') == '0'
  driver = tmp_path / 'files/lib/drivers/a3c_jax/a3c_jax.so'
  assert driver.readlink() == tmp_path / 'plugin.so'


def test_the_driver_wants_what_curves_allow():
  straight = np.zeros(5)
  assert baseline.wanted_speed(straight, 1.0, 1.0, 5.0) == math.inf
  # In a curve of radius 10 m: the root of 0.85 * 9.81 * 10.
  curve = np.full(5, -0.1)
  assert baseline.wanted_speed(curve, 1.0, 0.85, 5.0) == pytest.approx(
    83.385**0.5
  )
  # 20 m before it, braking by 14 m/s^2: 2 * 9.81 * 10 + 2 * 14 * 20.
  before = np.array([0.0, 0.0, 0.1])
  assert baseline.wanted_speed(before, 10.0, 2.0, 14.0) == pytest.approx(
    756.2**0.5
  )
