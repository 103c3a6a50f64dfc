"""How Sphinx makes the documentation site: `make docs`."""

import ast
import importlib.metadata
import inspect
import pathlib
import pkgutil
import re
import sys
import textwrap

from docutils import nodes
from latex2mathml import converter
from sphinx.util.docutils import SphinxDirective

# Of this checkout, whatever is installed.
sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

project = 'a3c_jax'
release = importlib.metadata.version('a3c_jax')
root_doc = 'docs/index'
# The whole repository is the source, so that links between files work in it
# and on the site alike.
include_patterns = [
  'docs/**',
  'experiments/**/*.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'BUILD.md',
  'SECURITY.md',
]
exclude_patterns = ['docs/site']
extensions = [
  'myst_parser',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'sphinx_copybutton',
  'sphinx_design',
]
myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_heading_anchors = 4
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = 'code'
smartquotes = False
html_theme = 'furo'
html_title = 'a3c_jax'
html_static_path = ['static']
html_css_files = ['site.css']
copybutton_prompt_text = '$ '
html_show_sphinx = False
html_copy_source = False


class Body(SphinxDirective):
  """The source of a function without its docstring."""

  required_arguments = 1

  def run(self):
    (name,) = self.arguments
    function = pkgutil.resolve_name(name)
    self.env.note_dependency(inspect.getsourcefile(function))
    source = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(source).body
    lines = source.splitlines()
    if ast.get_docstring(tree) is not None:
      first = tree.body[0]
      del lines[first.lineno - 1 : first.end_lineno]
    code = '\n'.join(lines)
    return [nodes.literal_block(code, code, language='python')]


class Settings(SphinxDirective):
  """A table of an algorithm's hyperparameters, from its record."""

  required_arguments = 1

  def run(self):
    from a3c_jax.algorithms import registry
    from a3c_jax.settings.defaults import defaults

    (algo,) = self.arguments
    domain = 'atari'
    algorithm = registry.get(algo)
    own = [*algorithm.settings, *_COMMON]
    columns = {'paper': defaults(domain, algo)}
    if 'quick' in algorithm.presets and domain in algorithm.presets['quick']:
      columns['quick'] = defaults(domain, algo, preset='quick')
    head = ['setting', *(f'--preset={name}' for name in columns), 'source']
    rows = []
    for name in own:
      if name not in columns['paper']:
        continue
      values = [table[name] for table in columns.values()]
      sources = list(dict.fromkeys(source for _, source in values))
      rows.append(
        [
          f'--{name}',
          *(_text(value) for value, _ in values),
          '; '.join(sources),
        ]
      )
    return [_table(head, rows)]


# Common settings that a paper of an algorithm gives.
_COMMON = (
  't_max',
  'gamma',
  'learning_rate',
  'optimizer',
  'rms_decay',
  'rms_epsilon',
  'rms_start',
  'max_grad_norm',
  'network',
  'norm',
  'normalize_images',
  'init_gain',
  'envs_per_thread',
  'threads',
  'frames',
)


def _text(value):
  if isinstance(value, tuple):
    return ', '.join(map(_text, value))
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, int) and value >= 10_000:
    return f'{value:,}'
  return f'{value:g}' if isinstance(value, float) else str(value)


def _table(head, rows):
  table, group = nodes.table(classes=['settings']), nodes.tgroup(cols=len(head))
  table += group
  for _ in head:
    group += nodes.colspec(colwidth=1)
  for part, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
    group += part
    for line in lines:
      row = nodes.row()
      part += row
      for place, cell in enumerate(line):
        entry = nodes.entry()
        row += entry
        code = place < len(line) - 1 and (part.tagname == 'tbody')
        kind = nodes.literal if code and cell else nodes.inline
        entry += nodes.paragraph('', '', kind(cell, cell))
  return table


def _plain(app, what, name, obj, options, lines):
  """Makes a docstring of plain text safe for reStructuredText.

  Indented equations stay as they are, and signs such as |δ| mean nothing.
  """
  if what == 'class' and hasattr(obj, '_fields') and 'Attributes:' not in lines:
    lines += ['', 'Attributes:', *_fields(obj)]
  made, equation = [], False
  in_section = False
  for number, line in enumerate(lines):
    in_section = in_section or bool(re.fullmatch(r'\w+:', line))
    before = lines[number - 1] if number else ''
    indented = line.startswith('    ') and not in_section
    if indented and not before.strip() and not equation:
      made += ['.. code-block:: text', '']
      equation = True
    elif line.strip() and not indented:
      equation = False
    code = equation or line.lstrip().startswith(('>>>', '...'))
    made.append(line if code else _escaped(line))
  lines[:] = made


def _fields(record):
  """Lines on the fields of a NamedTuple, from the comments beside them."""
  found, above = {}, []
  name = None
  for line in inspect.getsource(record).splitlines():
    field = re.match(r'  (\w+): [^#]*(?:# (.*))?$', line)
    comment = re.match(r'( *)# (.*)', line)
    if field:
      name = field[1]
      found[name] = [*above, *filter(None, [field[2]])]
      above = []
    elif comment and len(comment[1]) == 2:
      above.append(comment[2])
    elif comment and name:  # It goes on from the line of the field.
      found[name].append(comment[2])
  return [f'  {name}: {" ".join(text)}' for name, text in found.items() if text]


def _skip(app, what, name, obj, skip, options):
  """Leaves out fields of a NamedTuple, which its own docstring has."""
  return skip or (getattr(obj, '__doc__', None) or '').startswith('Alias for')


def _escaped(line):
  parts = re.split(r'(`[^`]*`)', line)
  parts[::2] = [re.sub(r'([|*]|_\b|_$)', r'\\\1', part) for part in parts[::2]]
  return ''.join(parts)


def _inline_math(self, node):
  self.body.append(converter.convert(node.astext()))
  raise nodes.SkipNode


def _block_math(self, node):
  mathml = converter.convert(node.astext(), display='block')
  self.body.append(f'<div class="math-block">{mathml}</div>')
  raise nodes.SkipNode


def _first_page(app, exception):
  """Leads from the folder of the site to its first page."""
  if exception is None and app.builder.name == 'html':
    page = '<meta http-equiv="refresh" content="0; url=docs/index.html">\n'
    pathlib.Path(app.outdir, 'index.html').write_text(page)


def setup(app):
  app.add_directive('body', Body)
  app.add_directive('settings', Settings)
  app.add_html_math_renderer(
    'mathml', (_inline_math, None), (_block_math, None)
  )
  # Before napoleon, which reads sections of what is left.
  app.connect('autodoc-process-docstring', _plain, priority=400)
  app.connect('autodoc-skip-member', _skip)
  app.connect('build-finished', _first_page)
  return {'parallel_read_safe': True}


html_math_renderer = 'mathml'
