"""Made-up control groups of Linux."""


def write(root, line, **files):
  """Makes a root folder in which this process is in control groups.

  Args:
    root: an empty folder.
    line: of /proc/self/cgroup.
    files: text of each file below /sys/fs/cgroup.
  """
  (root / 'proc/self').mkdir(parents=True)
  (root / 'proc/self/cgroup').write_text(line)
  for name, text in files.items():
    path = root / 'sys/fs/cgroup' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
