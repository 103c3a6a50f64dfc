"""Repeated measurements of speed: medians, tables, records and the picture."""

import datetime
import json
import subprocess

import pytest

from a3c_jax.core import cpu, errors
from a3c_jax.reproduce import speed


def figures(speed_, ratio, **more):
  return {
    'train_frames_per_second': speed_,
    'train_frames_per_cpu_second': speed_ / 2,
    'ratio': ratio,
  } | more


def test_an_interval_holds_all_values():
  assert speed.Interval.of([3.0, 1.0, 2.5]) == (2.5, 1.0, 3.0)
  assert speed.Interval.of([4.0, 1.0]) == (2.5, 1.0, 4.0)
  text = speed.Interval(1234.4, 1000.0, 2000.6).text(',.0f')
  assert text == '1,234 (1,000 to 2,001)'


def test_a_table_of_one_checkout():
  repeats = [
    figures(1000.0 * n, n / 10, setup_seconds=float(n)) for n in (3, 1, 2)
  ]
  header, *lines, last = speed.table({'this': repeats}).splitlines()
  assert header.split() == ['this']
  assert [' '.join(line.split()) for line in lines] == [
    'frames/s 2,000 (1,000 to 3,000)',
    'frames per CPU-second 1,000 (500 to 1,500)',
    'ratio 0.200 (0.100 to 0.300)',
    'set-up, seconds 2.0 (1.0 to 3.0)',
  ]
  assert last == 'median (smallest to largest) of 3'


def test_quotients_are_those_of_pairs():
  # 2/1, 3/4 and 6/4; the quotient of the medians would be 3/4.
  ours = [figures(x, x, setup_seconds=1.0) for x in (2.0, 3.0, 6.0)]
  other = [figures(x, x) for x in (1.0, 4.0, 4.0)]
  lines = speed.table({'this': ours, 'against': other}).splitlines()
  assert lines[0].split() == ['this', 'against', 'this', '/', 'against']
  for line in lines[1:4]:
    assert line.endswith('  1.500 (0.750 to 2.000)')
  # An older version has no such figure.
  assert 'set-up' not in ''.join(lines)


@pytest.mark.parametrize(
  ('arguments', 'kept'),
  [
    ('--algo=a3c --repeats=5 --threads=2', '--algo=a3c --threads=2'),
    ('--repeats 5 --lstm -json=a.json', '--lstm'),
    ('--seconds=5 repeats', '--seconds=5 repeats'),
    ('--json', ''),
  ],
)
def test_flags_with_their_values_are_left_out(arguments, kept):
  left = speed.without(arguments.split(), {'repeats', 'json'})
  assert left == kept.split()


def git(folder, *arguments):
  settings = ('user.name=a', 'user.email=b', 'commit.gpgsign=false')
  flags = [flag for setting in settings for flag in ('-c', setting)]
  done = subprocess.run(
    ['git', '-C', folder, *flags, *arguments],
    check=True,
    capture_output=True,
    text=True,
  )
  return done.stdout.strip()


def test_a_checkout_knows_its_version(tmp_path):
  checkout = speed.Checkout('this', tmp_path)
  assert checkout.version() == {}
  (tmp_path / 'code').write_text('1')
  git(tmp_path, 'init', '-q')
  git(tmp_path, 'add', 'code')
  git(tmp_path, 'commit', '-qm', 'one')
  version = checkout.version()
  assert version['commit'] == git(tmp_path, 'rev-parse', 'HEAD')
  assert datetime.datetime.fromisoformat(version['commit_date']).tzinfo
  assert not version['changed']
  (tmp_path / 'results').write_text('')  # No change of the code.
  assert checkout.version() == version
  (tmp_path / 'code').write_text('2')
  assert checkout.version() == version | {'changed': True}
  # A folder in that repository is not the checkout.
  (tmp_path / 'below').mkdir()
  assert speed.Checkout('this', tmp_path / 'below').version() == {}


def test_a_record_says_where_and_when(tmp_path, monkeypatch):
  monkeypatch.setattr(
    speed.Checkout,
    'version',
    lambda self: {'commit': f'of {self.name}', 'changed': False},
  )
  checkouts = [speed.Checkout(name, tmp_path) for name in ('this', 'against')]
  measured = {'this': [figures(1.0, 0.1)], 'against': [figures(2.0, 0.2)]}
  before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
  made = speed.record(['--json=a b.json'], checkouts, measured)
  assert made['command'] == "python experiments/benchmark.py '--json=a b.json'"
  assert datetime.datetime.fromisoformat(made['date']) >= before
  assert made['cores'] >= 1
  assert {'python', 'jax', 'jaxlib', 'numpy'} <= {*made['versions']}
  assert (made['commit'], made['repeats']) == ('of this', measured['this'])
  assert made['against'] == {
    'commit': 'of against',
    'changed': False,
    'repeats': measured['against'],
  }
  alone = speed.record([], checkouts[:1], {'this': measured['this']})
  assert 'against' not in alone
  assert json.loads(json.dumps(made)) == made


def test_the_processor_has_a_name(tmp_path, monkeypatch):
  monkeypatch.setattr('platform.processor', lambda: 'x86_64')
  assert cpu.name(tmp_path) == 'x86_64'
  (tmp_path / 'proc').mkdir()
  file = tmp_path / 'proc/cpuinfo'
  file.write_text('processor : 0\nmodel name\t: Some: CPU\nmodel name : b\n')
  assert cpu.name(tmp_path) == 'Some: CPU'
  file.write_text('processor : 0\n')
  assert cpu.name(tmp_path) == 'x86_64'


def write(folder, name, flags, ratios, commit_date=None, **more):
  """Writes what `--json` would."""
  content = {
    'command': f'python experiments/benchmark.py {flags}',
    'date': '2026-03-01T00:00:00+00:00',
    'repeats': [figures(1.0, ratio) for ratio in ratios],
  }
  if commit_date:
    content['commit_date'] = f'2026-{commit_date}T00:00:00+00:00'
  (folder / name).write_text(json.dumps(content | more))


def test_a_trend_has_a_line_for_all_flags(tmp_path):
  older = {
    'commit_date': '2026-01-01T00:00:00+00:00',
    'repeats': [figures(1.0, 0.25)],
  }
  write(tmp_path, 'a.json', '--threads=2 --algo=a3c', [0.3, 0.2, 0.5], '02-01')
  again = '--repeats=5 --algo=a3c --threads=2 --seconds=8 --against=b'
  write(tmp_path, 'b.json', again, [0.4], against=older)
  write(tmp_path, 'c.json', '', [0.1], '02-01')
  lines = speed.read_trend(str(tmp_path))
  assert set(lines) == {'--algo=a3c --threads=2', ''}
  points = lines['--algo=a3c --threads=2']
  # Without a commit, the date is that of the measurement.
  assert [each.date.month for each in points] == [1, 2, 3]
  assert [each.ratio for each in points] == [
    (0.25, 0.25, 0.25),
    (0.3, 0.2, 0.5),
    (0.4, 0.4, 0.4),
  ]


def test_a_picture_has_the_points_of_a_trend():
  pytest.importorskip('matplotlib')
  date = lambda month: datetime.datetime(2026, month, 1, tzinfo=datetime.UTC)
  points = [
    speed.Point(date(1), speed.Interval(0.3, 0.2, 0.5)),
    speed.Point(date(2), speed.Interval(0.4, 0.4, 0.4)),
  ]
  picture = speed.draw({'--lstm': points, '': points[:1]})
  (axes,) = picture.axes
  lines, labels = axes.get_legend_handles_labels()
  assert labels == ['--lstm', 'defaults']
  assert [*lines[0][0].get_ydata()] == [0.3, 0.4]
  assert [*lines[0][0].get_xdata()] == [date(1), date(2)]
  (bars,) = lines[0][2]
  ends = [[y for _, y in each] for each in bars.get_segments()]
  assert ends == [pytest.approx([0.2, 0.5]), pytest.approx([0.4, 0.4])]


def test_dates_without_a_zone_are_local(tmp_path):
  write(tmp_path, 'a.json', '', [0.1])
  local = datetime.datetime(2026, 2, 1)
  write(tmp_path, 'b.json', '', [0.2], date=local.isoformat())
  first, second = speed.read_trend(str(tmp_path))['']
  assert first.date == local.astimezone() < second.date


def trend_of(against='b'):
  content = {'command': 'a b', 'date': '2026-03-01', 'repeats': [{'ratio': 1}]}
  return json.dumps(content | {'against': against})


@pytest.mark.parametrize(
  ('text', 'problem'),
  [
    (None, 'holds no JSON file'),
    ('{', 'a.json: Expecting'),
    ('{}', "a.json: 'command'"),
    ('[]', 'a.json: list indices'),
    ('{"command": "", "date": ""}', 'a.json: not enough values'),
    ('{"command": 5}', 'a.json: not enough values'),
    (trend_of(), "a.json: 'str' object has no attribute"),
    (trend_of(against={'repeats': [{'ratio': 'a'}]}), 'a.json: could not'),
  ],
)
def test_a_folder_without_measurements_is_refused(tmp_path, text, problem):
  if text is not None:
    (tmp_path / 'a.json').write_text(text)
  with pytest.raises(errors.UsageError, match=f'^--plot=.*: {problem}'):
    speed.read_trend(str(tmp_path))
