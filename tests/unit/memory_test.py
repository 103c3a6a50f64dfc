"""Memory that the machine and the container have left."""

import types

import control_groups
import psutil
import pytest

from a3c_jax.core import memory

MACHINE = 10_000
V1 = '4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n'


def v2(limit, used, stat='', group='', high='max'):
  return {
    f'{group}memory.max': f'{limit}\n',
    f'{group}memory.high': f'{high}\n',
    f'{group}memory.current': f'{used}\n',
    f'{group}memory.stat': stat,
  }


def v1(limit, used, stat='', group='memory/'):
  return {
    f'{group}memory.limit_in_bytes': f'{limit}\n',
    f'{group}memory.usage_in_bytes': f'{used}\n',
    f'{group}memory.stat': stat,
  }


V2_STAT = 'anon 5\nfile 900\nactive_file 300\ninactive_file 200\nshmem 400\n'
V1_STAT = (
  'active_file 1\ninactive_file 1\ntotal_active_file 300\n'
  'total_inactive_file 200\ntotal_shmem 400\n'
)


@pytest.mark.parametrize(
  ('line', 'files', 'expected'),
  [
    ('', {}, MACHINE),
    ('0::/\n', {}, MACHINE),
    ('0::/\n', v2('max', 3000), MACHINE),
    ('0::/\n', v2(5000, 3000), 2000),
    ('0::/\n', v2(50_000, 3000), MACHINE),
    ('0::/\n', v2(5000, 3000, V2_STAT), 2500),
    ('0::/\n', v2(5000, 100, V2_STAT), 5000),  # Counted a moment later.
    ('0::/\n', v2(5000, 6000), 0),
    ('0::/\n', v2('max', 3000, high=4000), 1000),
    ('0::/\n', v2(3500, 3000, high=4000), 500),
    ('0::/\n', v2(5000, 'garbage'), MACHINE),
    # The smallest of the group and those it is in.
    ('0::/a/b\n', v2(5000, 3000, group='a/') | v2(9, 1, group='a/b/'), 8),
    ('0::/a/b\n', v2(50, 30, group='a/') | v2(90, 10, group='a/b/'), 20),
    # The path is that outside of the container.
    ('0::/../x\n', v2(5000, 3000), 2000),
    (V1, v1(2**63 - 4096, 3000), MACHINE),
    (V1, v1(5000, 3000), 2000),
    (V1, v1(5000, 3000, V1_STAT), 2500),
    (V1, v1(5000, 3000, group='memory/docker/a/'), 2000),
    (V1, v1(5000, 3000, group='cpu/'), MACHINE),
  ],
)
def test_the_smallest_of_machine_and_groups_counts(
  tmp_path, monkeypatch, line, files, expected
):
  machine = types.SimpleNamespace(available=MACHINE)
  monkeypatch.setattr(psutil, 'virtual_memory', lambda: machine)
  control_groups.write(tmp_path, line, **files)
  assert memory.available_bytes(tmp_path) == expected


def test_this_machine_has_memory_left():
  assert 0 < memory.available_bytes() <= psutil.virtual_memory().total
