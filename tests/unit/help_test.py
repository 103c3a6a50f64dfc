"""Help gives the defaults of an algorithm in a domain."""

import pytest
import script_flags

from a3c_jax.settings import flags as flags_lib


@pytest.fixture
def describe():
  """A function (domain, algorithm) -> the help of its script, in one line."""

  def describe_flags(domain, algo):
    with script_flags.forgotten():
      flags_lib.define_run(domain)
      return ' '.join(flags_lib.describe(algo).split())

  return describe_flags


def test_defaults_are_those_of_the_algorithm_in_the_domain(describe):
  everything = describe('labyrinth', None)
  assert 'Default: 20 (reproductions of the paper); with ' in everything
  assert (
    ' or --algo=one_step_sarsa or --algo=pgql 5 (paper, section 8)'
    in everything
  )
  a3c = describe('labyrinth', 'a3c')
  assert 'Default: 20 (reproductions of the paper).' in a3c
  assert '--[no]lstm: ' in a3c
  nstep_q = describe('labyrinth', 'nstep_q')
  assert 'Default: 5 (paper, section 8).' in nstep_q
  assert 'lstm: ' not in nstep_q and '; with ' not in nstep_q
  assert 'Default: a3c (' in nstep_q  # Without --algo.


def test_what_is_allowed_is_what_the_domain_and_the_algorithm_have(describe):
  presets = 'Allowed: paper, quick, paac, ga3c.'
  assert presets in describe('atari', None)
  assert presets not in describe('atari', 'nstep_q')
  catch = describe('catch', None)
  assert 'Allowed: paper.' in catch and 'Allowed: plain.' in catch
  assert 'plain: the environment as it is.' in catch
  control = describe('control', None)
  assert 'Allowed: a3c.' in control and '--exploration_ends' not in control


def test_numbers_are_shown_as_one_may_give_them(describe):
  atari = describe('atari', None)
  assert 'Default: 40_000_000 (ours); with --preset=quick 20_000_000' in atari
  assert 'Default: 0.0007 (authors); with --preset=quick 0.001 (' in atari
  assert 'Default: false (paper, section 8).' in atari
  assert 'Default: none (ours).' in atari
