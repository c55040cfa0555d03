"""Rows as text."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_client import tables


def test_a_table_is_as_wide_as_its_text_and_numbers_stand_to_the_right():
    rows = [{"path": "/pricing", "visitors": 12, "rate": 1 / 3}, {"path": "/", "visitors": 7, "rate": None}]
    assert tables.table(["path", "visitors", "rate"], rows[:1]) == (
        "path      visitors    rate\n"
        "/pricing        12  0.3333\n"
    )  # fmt: skip
    assert tables.table(["path", "visitors"], rows) == (
        "path      visitors\n"
        "/pricing        12\n"
        "/                7\n"
    )  # fmt: skip


def test_a_table_without_rows_is_its_head():
    assert tables.table(["path", "visitors"], []) == "path  visitors\n"


def test_wide_and_combining_letters_keep_the_columns_straight():
    rows = [{"title": "日本", "n": 1}, {"title": "e\u0301", "n": 2}, {"title": "abcd", "n": 3}]
    assert tables.table(["title", "n"], rows).splitlines()[1:] == ["日本   1", "e\u0301      2", "abcd   3"]


def test_a_table_obeys_nobody():
    assert "\x1b" not in tables.table(["path"], [{"path": "/\x1b[2J\x9b\u202e\nx"}])
    assert tables.table(["path"], [{"path": "/\nx"}]).count("\n") == 2
    assert tables.visible("a\u3000b\xa0c") == "a\u3000b\xa0c"


def test_lists_truth_and_nothing_are_readable():
    rows = tables.facts({"key": {"scopes": ["a", "b"], "websites": None, "old": False}, "n": 1.50})
    assert tables.table(["field", "value"], rows) == (
        "field         value\n"
        "key.scopes    a, b\n"
        "key.websites\n"
        "key.old       false\n"
        "n             1.5\n"
    )  # fmt: skip


@pytest.mark.case(94)
@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+cmd", "-2+3", "@sum", "\tx", "\rx", "\nx", "=", "-", "--1", "-1e", "+1,5", "-5", "-12.50", " =1", "\xa0=1",
     "\ufeff=1", "\u200b@x", "＝1+1", "＋1", "－1", "＠x", "﹣1", "\x00=1", "\u2028-1"],
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(cell):
    assert read(tables.comma_separated(["a"], [{"a": cell}]))[1] == ["'" + cell]
    assert read(tables.comma_separated(["a"], [{"a": [cell, "b"]}]))[1] == [f"'{cell}, b"]
    assert read(tables.comma_separated(["a"], [{"a": cell}], raw=True))[1] == [cell]


@pytest.mark.case(94)
@pytest.mark.parametrize(
    ("text", "quoted"),
    [("x;=1;y", "x;'=1;y"), ("x\n=1", "x\n'=1"), ("x;\xa0@y", "x;\xa0'@y"), ("\n=1", "'\n'=1"), ('";=1;"', '";\'=1;"')],
)
def test_a_text_that_a_spreadsheet_would_split_into_a_formula_is_quoted_within(text: str, quoted: str) -> None:
    assert read(tables.comma_separated(["a"], [{"a": text}]))[1] == [quoted]
    written = tables.comma_separated(["a", "b"], [{"a": {"b": ";=1;"}, "b": "c"}])
    assert ";" not in written
    assert json.loads(read(written)[1][0]) == {"b": ";=1;"}


@pytest.mark.parametrize("cell", [-5, -0.5, -1e-9, -19.90, True, "", "a=b", "'x", "1e5", " x", "−", "{}"])
def test_numbers_and_common_text_are_not(cell):
    text = "true" if cell is True else str(cell)
    assert read(tables.comma_separated(["a", "b"], [{"a": cell, "b": 1}]))[1] == [text, "1"]


@given(st.text("=+-@＝＋－＠'\",;\t\r\n \xa0\u200b\u202eab1", max_size=12) | st.text(max_size=40))
def test_any_text_comes_back_without_the_quotes_that_were_put_before_signs(text):
    ((cell,),) = read(tables.comma_separated(["a"], [{"a": text}]))[1:] or [[""]]
    assert cell.replace("'", "") == text.replace("'", "")
    assert not cell.strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert not cell.startswith(("\t", "\r", "\n"))
    ((raw,),) = read(tables.comma_separated(["a"], [{"a": text}], raw=True))[1:] or [[""]]
    assert raw == text


def test_csv_is_as_rfc_4180_has_it():
    rows = [{"a": 'say "x", y', "b": "two\r\nlines"}, {"a": None, "b": True}]
    assert tables.comma_separated(["a", "b"], rows) == 'a,b\r\n"say ""x"", y","two\r\nlines"\r\n,true\r\n'


def test_names_of_columns_are_cells_too():
    assert read(tables.comma_separated(["=a"], [])) == [["'=a"]]
    assert read(tables.comma_separated(["=a"], [], raw=True)) == [["=a"]]


def read(text):
    return list(csv.reader(io.StringIO(text, newline="")))
