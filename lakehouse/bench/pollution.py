"""Pollute a table as the Pollock benchmark does: each file has one defect, or is written in one dialect, that files have.

The kinds are those of Vitagliano et al., "Pollock: A Data Loading Benchmark", VLDB 2023, table 3.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CRLF = "\r\n"


@dataclass(frozen=True, slots=True)
class PollutedFile:
    """A polluted file, and the table that a loader should read from it. `header` is empty if the file has none."""

    name: str
    content: bytes
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    options: dict[str, Any] = field(default_factory=dict)
    """The dialect by which the pollution is known, by the names that contracts use."""

    @property
    def kind(self) -> str:
        """The kind of the pollution; of those in a row, without the place: `row_less_sep`."""
        return re.sub(r"(?<=^row_)(\D+?)_?(row)?\d.*", r"\1", self.name)


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, and whether it is written in quotes."""

    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Dialect:
    """How lines are written. `escape` stands before each quote in a value."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    end: str = CRLF

    def pieces(self, line: Sequence[Cell]) -> list[str]:
        """Write the cells, with the delimiters between them as pieces of their own."""
        written = [self._write(cell) for cell in line]
        return [piece for text in written for piece in (self.delimiter, text)][1:]

    def _write(self, cell: Cell) -> str:
        text = cell.text.replace('"', self.escape + '"')
        return f"{self.quote}{text}{self.quote}" if cell.quoted else text


def pollute(lines: Sequence[Sequence[Cell]]) -> Iterator[PollutedFile]:
    """Pollute a table, whose first line is its header, in every way and place."""
    table = _Table(lines)
    yield from table.whole()
    yield from table.in_header()
    yield from table.in_dialects()
    for row in range(len(lines)):
        yield from table.in_row(row)


def read_polluted(folder: Path) -> Iterator[PollutedFile]:
    """Read the files of the benchmark itself, from its folder with `csv`, `clean` and `parameters`."""
    for path in sorted((folder / "csv").iterdir()):
        text = (folder / "clean" / path.name).read_text("utf-8-sig")
        clean = list(csv.reader(text.splitlines(keepends=True)))
        clean = [row for row in clean if row]
        told = json.loads((folder / "parameters" / f"{path.name}_parameters.json").read_text())
        has_header = bool(told["header_lines"]) and bool(clean)
        header, rows = (clean[0], clean[1:]) if has_header else ((), clean)
        yield PollutedFile(path.stem, path.read_bytes(), header, rows, _options(told))


def _options(told: dict[str, Any]) -> dict[str, Any]:
    """Translate the parameters of a file, as Pollock gives them to each system, into the options of a dialect."""
    if not told["delimiter"]:
        return {}
    options = {"delimiter": told["delimiter"], "quote": told["quotechar"], "header": False}
    if told["escapechar"] not in ("", told["quotechar"]):
        options["escape"] = told["escapechar"]
    if lines := told["header_lines"]:
        # A name over several lines is given as often: `Qty Qty`.
        options["columns"] = [name[: (len(name) + 1) // lines - 1] for name in told["column_names"]]
        options["skip"] = told["preamble_lines"] + lines
    return options


class _Table:
    """One table to pollute."""

    def __init__(self, lines: Sequence[Sequence[Cell]]) -> None:
        self._lines = lines
        self._header = [cell.text for cell in lines[0]]
        self._rows = [[cell.text for cell in line] for line in lines[1:]]

    def whole(self) -> Iterator[PollutedFile]:
        """Change the end of the file, and how many tables and rows it has."""
        text = _join(self._write(Dialect()))
        yield self._file("source", text)
        yield PollutedFile("file_no_payload", b"", (), ())
        yield self._file("file_no_trailing_newline", text.removesuffix(CRLF))
        yield self._file("file_double_trailing_newline", text + CRLF)
        yield self._file("file_header_only", _join(self._write(Dialect())[:1]), rows=[])
        yield self._file("file_one_data_row", _join(self._write(Dialect())[:2]), rows=self._rows[:1])
        for name, change in (
            ("less", lambda line: line[:-1]),
            ("same", list),
            ("more", lambda line: [*line, line[-1]]),
        ):
            second = [change(line) for line in self._lines]
            yield self._file(f"file_multitable_{name}", text + _join([Dialect().pieces(line) for line in second]))

    def in_header(self) -> Iterator[PollutedFile]:
        """Put lines before or into the header, or leave it out."""
        lines = self._write(Dialect())
        nothing = [","] * (len(self._header) - 1)
        preamble = [["PREAMBLE", *nothing], nothing]
        told = {"header": False, "columns": self._header}
        yield PollutedFile("file_no_header", _join(lines[1:]).encode(), (), self._rows, told)
        yield self._file("file_preamble", _join([*preamble, *lines]), {"skip": 2})
        for count in (2, 3):
            text = _join(lines[:1] * (count - 1) + lines)
            header = [" ".join([name] * count) for name in self._header]
            yield PollutedFile(
                f"file_header_multirow_{count}", text.encode(), header, self._rows, told | {"skip": count}
            )

    def in_dialects(self) -> Iterator[PollutedFile]:
        """Write the file by other rules."""
        for delimiter in (";", "\t", ", ", " "):
            text = _join(self._write(Dialect(delimiter=delimiter)))
            yield self._file(f"file_field_delimiter{_codes(delimiter)}", text, {"delimiter": delimiter})
        yield self._file(
            "file_quotation_char_0x27", _join(self._write(Dialect(quote="'"))), {"quote": "'", "escape": '"'}
        )
        yield self._file("file_escape_char_0x5C", _join(self._write(Dialect(escape="\\"))), {"escape": "\\"})
        yield self._file("file_escape_char_0x00", _join(self._write(Dialect(escape=""))))
        for end in ("\n", "\r"):
            yield self._file(f"file_record_delimiter{_codes(end)}", _join(self._write(Dialect()), end))

    def in_row(self, row: int) -> Iterator[PollutedFile]:
        """Add or lose a character in a row, or write it with another delimiter."""
        lines = self._write(Dialect())
        told = {"header": False, "columns": self._header, "skip": 1} if row == 0 else {}

        def changed(name: str, line: Sequence[str], rows: Sequence[Sequence[str]] | None = None) -> PollutedFile:
            return self._file(name, _join([*lines[:row], line, *lines[row + 1 :]]), told, rows)

        for column in range(len(self._header)):
            at = max(2 * column - 1, 0)
            yield changed(f"row_more_sep_row{row}_col{column}", [*lines[row][:at], ",", *lines[row][at:]])
            if column:
                yield changed(f"row_less_sep_row{row}_col{column}", [*lines[row][:at], *lines[row][at + 1 :]])
            yield changed(
                f"row_extra_quote{row}_col{column}", self._with_quote(row, column), self._rows_with_quote(row, column)
            )
        spaced = [" " if place % 2 else piece for place, piece in enumerate(lines[row])]
        yield changed(f"row_field_delimiter_{row}_0x20", spaced)

    def _with_quote(self, row: int, column: int) -> list[str]:
        cell, pieces = self._lines[row][column], Dialect().pieces(self._lines[row])
        pieces[2 * column] = f'""{pieces[2 * column][1:]}' if cell.quoted else f'"{pieces[2 * column]}'
        return pieces

    def _rows_with_quote(self, row: int, column: int) -> list[list[str]]:
        if not row:
            return self._rows
        polluted = list(self._rows[row - 1])
        polluted[column] = f'"{polluted[column]}'
        return [*self._rows[: row - 1], polluted, *self._rows[row:]]

    def _write(self, dialect: Dialect) -> list[list[str]]:
        return [dialect.pieces(line) for line in self._lines]

    def _file(
        self,
        name: str,
        text: str,
        options: dict[str, Any] | None = None,
        rows: Sequence[Sequence[str]] | None = None,
    ) -> PollutedFile:
        return PollutedFile(name, text.encode(), self._header, self._rows if rows is None else rows, options or {})


def _join(lines: Iterable[Sequence[str]], end: str = CRLF) -> str:
    return "".join("".join(line) + end for line in lines)


def _codes(text: str) -> str:
    return "".join(f"_0x{ord(character):X}" for character in text)


PRODUCTS = (
    *("Hiking Boots, Tall", "Men's Vest", 'Round Table, 48"', "Sandals", "Wool Hat", 'Boxer, 5" Inseam', "Kids' Mocs"),
    *("Fly Rods", "Tee, Long-Sleeve", "Coffee Table"),
)
TEXTS = (
    "Light enough for peak performance, dry in rain.",
    "Great for those who won't stop; a classic.",
    "A light feel in our 8\\'9\" length, made for her.",
    "Warm and soft.",
)


def source_table(rows: int = 83) -> list[list[Cell]]:
    """Make a table with the traits of Pollock's: dates, prices, commas, apostrophes, quotes, a backslash, an empty column."""
    names = ("DATE", "TIME", "Qty", "PRODUCTID", "Price", "ProductType", "ProductDescription", "URL", "Comments")
    always = {"ProductDescription", "URL"}
    table = [[Cell(name, name in always) for name in names]]
    for i in range(rows):
        product_type = PRODUCTS[i % len(PRODUCTS)]
        values = (
            *(f"{1 + i % 28:02}/{1 + i // 28:02}/2018", f"{i % 24:02}:{i * 15 % 60:02}", str(i * 7 % 34)),
            *(f"RI-{1000 + i}", f"${i * 1.13 + 0.9:.2f}", product_type, f"{TEXTS[i % len(TEXTS)]} No. {i}"),
            *(f"https://www.example.com/product/RI_{1000 + i}.html", ""),
        )
        table.append(
            [
                Cell(value, name in always or any(mark in value for mark in ',"'))
                for name, value in zip(names, values, strict=True)
            ]
        )
    return table
