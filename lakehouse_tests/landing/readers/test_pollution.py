"""Files with one defect each: a row is read as it was written, or rejected."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.bench.pollock import CONTRACT, judge, read_with_contract
from lakehouse.bench.pollution import Cell, PollutedFile, pollute, source_table
from lakehouse.contracts.model import Contract

DATE, NAME, NOTE = (CONTRACT.field(name) for name in ("date", "time", "comments"))
TABLE = Contract("table", "1.0.0", "", "", (DATE, NAME, NOTE), "date")

TEXTS = st.text(st.sampled_from("ab,;\" '"), max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> list[list[Cell]]:
    """Draw a header and rows of a date, a text that is there, and a text that may be empty."""

    def cell(text: str) -> Cell:
        return Cell(text, any(mark in text for mark in ',"') or draw(st.booleans()))

    rows = draw(st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=4))
    lines = [[f"{i:02}/02/2018", *texts] for i, texts in enumerate(rows, 1)]
    return [[cell(text) for text in line] for line in [["DATE", "TIME", "Comments"], *lines]]


def is_ambiguous(file: PollutedFile, table: list[list[Cell]], *, told: bool) -> bool:
    """Return whether the bytes may as well be those of another table."""
    texts = [cell.text for line in table for cell in line]
    match file.name:
        case "file_escape_char_0x00":
            return any(re.search('^"|"$|"[,"]|,"', text) for text in texts)
        case "file_quotation_char_0x27":  # neither the header nor the rows escape an apostrophe
            is_shown = told or any(cell.quoted for cell in table[0])
            return not is_shown or any(text.startswith("'") or "''" in text for text in texts)
        case "file_field_delimiter_0x2C_0x20":
            return not told
        case _:
            return False


@settings(max_examples=12, deadline=None)
@given(table=tables(), told=st.booleans())
def test_no_valid_row_of_a_polluted_file_differs(table: list[list[Cell]], told: bool) -> None:
    files = [file for file in pollute(table) if not is_ambiguous(file, table, told=told)]
    written = {tuple(cell.text for cell in line) for line in table[1:]}
    read = read_with_contract(files, told=told, contract=TABLE)
    for file in files:
        allowed = written | set(map(tuple, file.rows))
        assert not set(map(tuple, read[file.name][1])) - allowed, file


@pytest.fixture(scope="module")
def polluted() -> list[PollutedFile]:
    """Files of every kind, in the first rows alone."""
    return list(pollute(source_table(12)))


@pytest.mark.parametrize("told", [False, True])
def test_polluted_table_gives_no_wrong_row(polluted: list[PollutedFile], told: bool) -> None:
    read = read_with_contract(polluted, told=told)
    assert {file.name for file in polluted if judge(file, read[file.name]).wrong} == set()


def test_dialect_that_says_so_reads_every_row(polluted: list[PollutedFile]) -> None:
    names = {
        *("file_no_header", "file_preamble", "file_field_delimiter_0x2C_0x20", "file_field_delimiter_0x3B"),
        *("file_header_multirow_3", "file_record_delimiter_0xD", "file_multitable_more"),
        *(file.name for file in polluted if "row0" in file.name or "quote0" in file.name),
    }
    files = [file for file in polluted if file.name in names]
    read = read_with_contract(files, told=True)
    assert {name: sorted(map(list, rows)) for name, (_, rows) in read.items()} == {
        file.name: sorted(map(list, file.rows)) for file in files
    }
