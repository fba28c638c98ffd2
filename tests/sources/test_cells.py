import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raison.records import Fault
from raison.sources.cells import cell_rows


def rows(path, needed=None):
    return [str(item) if isinstance(item, Fault) else item for item in cell_rows(path, needed)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_the_delimiter_is_the_headers(write, delimiter):
    path = write("x.csv", "a|b\n1|x\n2|y\n".replace("|", delimiter))
    assert rows(path) == [(2, {"a": "1", "b": "x"}), (3, {"a": "2", "b": "y"})]


def test_a_cell_may_have_line_breaks_and_the_row_keeps_its_first_line(write):
    path = write("x.csv", 'a,b\r\n1,"one\r\n\r\nthree, ""four"""\r\n2,y\r\n')
    assert rows(path) == [(2, {"a": "1", "b": 'one\r\n\r\nthree, "four"'}), (5, {"a": "2", "b": "y"})]


def test_blank_lines_also_those_of_spreadsheets_are_passed_over(write):
    assert rows(write("x.csv", "a,b\n\n1,x\n,\n  \n2,y\n\n")) == [(3, {"a": "1", "b": "x"}), (6, {"a": "2", "b": "y"})]


def test_a_row_with_too_many_or_few_cells_costs_only_itself(write):
    path = write("x.csv", "a,b\n1\n2,x,y\n3,z\n")
    assert rows(path) == [
        f"{path}:2: expected 2 cells, as in the header, found 1",
        f"{path}:3: expected 2 cells, as in the header, found 3",
        (4, {"a": "3", "b": "z"}),
    ]


@pytest.mark.parametrize("bad", ['1,"open', '"1,open'])
def test_a_quotation_mark_left_open_costs_only_its_line(write, bad):
    path = write("x.csv", f"a,b\n{bad}\n2,y\n3,z\n")
    assert rows(path) == [
        f"{path}:2: a quotation mark is left open",
        (3, {"a": "2", "b": "y"}),
        (4, {"a": "3", "b": "z"}),
    ]


def test_it_does_not_swallow_rows_up_to_the_next_quotation_mark(write):
    path = write("x.csv", 'a,b\n1,"open\n2,y\n3,"z"\n')
    assert rows(path)[1:] == [(3, {"a": "2", "b": "y"}), (4, {"a": "3", "b": "z"})]


def test_a_very_long_cell_is_read_and_an_endless_one_is_not(write):
    text = "word " * 100_000
    assert rows(write("x.csv", f"a,b\n1,{text}\n")) == [(2, {"a": "1", "b": text})]
    path = write("y.csv", 'a,b\n1,"' + ("x" * 1000 + "\n") * 1200 + "2,y\n")
    assert rows(path)[0] == f"{path}:2: a quotation mark is left open"
    assert rows(path)[-1] == (1202, {"a": "2", "b": "y"})


def test_the_limit_of_the_csv_module_is_left_as_it_was(write):
    before = csv.field_size_limit()
    rows(write("x.csv", "a,b\n1,x\n"))
    assert csv.field_size_limit() == before


def test_tab_separated_text_may_be_unquoted(write):
    path = write("x.tsv", 'a\tb\n1\t"so" she said\n2\t"a ""b"" c"\n3\t"\n')
    assert [row["b"] for _, row in rows(path)] == ['"so" she said', 'a "b" c', '"']


def test_bytes_that_are_not_utf8_cost_their_row_and_name_the_column(write):
    path = write("x.csv", b"a,b\n1,caf\xe9\n2,caf\xc3\xa9\n")
    assert rows(path)[0].startswith(f"{path}:2: column 'b': not UTF-8 text")
    assert rows(path)[1] == (3, {"a": "2", "b": "café"})


def test_a_byte_order_mark_is_no_part_of_the_first_column(write):
    assert rows(write("x.csv", b"\xef\xbb\xbfa,b\n1,x\n"), ["a"]) == [(2, {"a": "1", "b": "x"})]


def test_utf16_and_missing_files(write, tmp_path):
    assert "UTF-16 text; expected UTF-8" in rows(write("x.csv", "a,b\n1,x\n".encode("utf-16")))[0]
    assert rows(tmp_path / "no.csv") == [f"{tmp_path / 'no.csv'}: no such file"]
    assert rows(write("y.csv", "")) == []


def test_the_header_is_checked(write):
    path = write("x.csv", "Sentence1,Sentence2,label,label\n")
    assert rows(path, ["Sentnce1", "label"]) == [
        f"{path}:1: column 'label' stands in the header twice",
        f"{path}:1: unknown column 'Sentnce1'; did you mean 'Sentence1'? (there are: Sentence1, Sentence2, label)",
    ]


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5))
def test_what_the_csv_module_writes_is_read(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b", "c"), *table])
    kept = [row for row in table if "".join(row).strip(' \t\n\r",')]
    found = [tuple(row.values()) for _, row in cell_rows(path) if "".join(row.values()).strip(' \t\n\r",')]
    assert found == kept


@given(st.binary(max_size=120))
def test_whatever_the_bytes_reading_ends(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(b"a,b\n" + data)
    for item in cell_rows(path):
        assert "\n" not in str(item) if isinstance(item, Fault) else len(item[1]) == 2
