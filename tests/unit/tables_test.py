"""Cells of CSV files in a spreadsheet."""

import csv
import io

import pytest

from a3c_jax.core import tables


@pytest.mark.parametrize(
  'text',
  [
    '=cmd|"/c calc"!A1',
    '+1+cmd',
    '-2+3',
    '-',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    '\n=1',
    '＝1+1',
  ],
)
def test_text_that_would_be_a_formula_gets_an_apostrophe(text):
  assert tables.as_cells({'env': text}) == {'env': "'" + text}


def test_numbers_and_other_text_stay_as_they_are():
  row = {
    'env': 'CartPole-v1',
    'algo': 'a3c',
    'mean': -20.4,
    'text': '-20.4',
    'small': '-1e-05',
    'least': '-inf',
    'none': None,
    'empty': '',
    'best': True,
  }
  assert tables.as_cells(row) == row
  file = io.StringIO()
  csv.DictWriter(file, [*row]).writerow(tables.as_cells(row))
  assert file.getvalue().startswith('CartPole-v1,a3c,-20.4,-20.4,')


def test_a_table_has_a_header_and_no_formulas():
  file = io.StringIO()
  tables.write(file, [{'a': 1, 'b': '=1'}, {'a': 2.5, 'b': 'x'}])
  assert file.getvalue().splitlines() == ['a,b', "1,'=1", '2.5,x']
