"""`bench pollock`: CSV files with the defects of the Pollock benchmark, read by landing and contract, beside DuckDB.

The score is Pollock's, from 0 to 10: whether the file is read, and precision, recall and F1 of its header, rows and values.
A row that is read with values that no row has is wrong without a word. A rejected row costs points, but is not wrong.
"""

import io
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.bench.figures import Figure, figure
from lakehouse.bench.pollution import PollutedFile, pollute, read_polluted, source_table
from lakehouse.contracts.dialect import encode_options
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.sql import clean_sql, day_sql, literal, quote
from lakehouse.contracts.time_formats import read_time_format
from lakehouse.landing.keys import READ_AS
from lakehouse.landing.readers import InputObject, bronze_rows
from lakehouse.landing.readers.csv_blocks import csv_layout

REACH = 9.95

MAX_KINDS = 8
"""The kinds of pollution of which the lost points are told."""

_DATE, _TEXT, _INTEGER = FieldType("timestamp"), FieldType("string"), FieldType("integer")

CONTRACT = Contract(
    "pollock",
    "1.0.0",
    "The products of Pollock's table.",
    "lakehouse",
    (
        Field("date", _DATE, "DATE", required=True, key=True, format=(read_time_format("dd/MM/yyyy"),)),
        Field("time", _TEXT, "TIME", required=True, key=True),
        Field("quantity", _INTEGER, "Qty", required=True),
        Field("product_id", _TEXT, "PRODUCTID", required=True, key=True),
        Field("price", _TEXT, "Price", required=True),
        Field("product_type", _TEXT, "ProductType", required=True),
        Field("description", _TEXT, "ProductDescription", required=True),
        Field("url", _TEXT, "URL", required=True),
        Field("comments", _TEXT, "Comments"),
    ),
    "date",
)
"""The contract of Pollock's table. Its dates are read as they are written."""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""A header, which may be empty, and rows."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one file was read: its score, and the rows that are in no row of the table."""

    kind: str
    score: float
    wrong: int


def measure(folder: Path | None) -> Iterator[Figure]:
    """Yield the scores of the benchmark's own files in `folder`, or of files polluted in the same ways."""
    files = list(read_polluted(folder)) if folder else list(pollute(source_table()))
    for reader, read in (("lakehouse", read_with_contract), ("duckdb", read_with_duckdb)):
        for told, words in ((False, "as they come"), (True, "told the dialect")):
            tables = read(files, told=told)
            results = [judge(file, tables.get(file.name)) for file in files]
            reach = REACH if reader == "lakehouse" and told else None
            yield _figure(f"{reader}, {words}", results, reach)


def _figure(name: str, results: Sequence[Result], reach: float | None) -> Figure:
    lost: defaultdict[str, float] = defaultdict(float)
    for result in results:
        lost[result.kind] += 10 - result.score
    most = sorted(lost, key=lost.__getitem__, reverse=True)[:MAX_KINDS]
    return figure(
        "pollock",
        name,
        sum(result.score for result in results) / len(results),
        "of 10",
        reach,
        files=len(results),
        wrong_rows=sum(result.wrong for result in results),
        files_with_wrong_rows=sum(result.wrong > 0 for result in results),
        lost_points={kind: round(lost[kind], 1) for kind in most},
    )


def read_with_contract(files: Iterable[PollutedFile], *, told: bool, contract: Contract = CONTRACT) -> dict[str, Table]:
    """Read files as `load` does, and keep the valid rows, each key once."""
    objects = [_object(contract, file, told) for file in files]
    names = {obj.name: file.name for obj, file in zip(objects, files, strict=True)}
    rows: defaultdict[str, list[Sequence[str]]] = defaultdict(list)
    values = ", ".join(_text_sql(field) for field in contract.fields)
    keys = ", ".join(map(quote, contract.key))
    with duckdb.connect(config={"threads": 1}) as database:
        database.execute("set timezone = 'UTC'")
        bronze_rows(database, contract, objects).create_view("landed")
        bronze = f"(select *, {day_sql(contract, 'landed')} as dt from landed)"
        cursor = database.execute(
            f"with bronze as {bronze} select _object, [{values}] from ({clean_sql(contract)}) where _valid"
            f" qualify row_number() over (partition by _object, {keys} order by _row desc) = 1 order by _object, _row"
        )
        for name, texts in cursor.fetchall():
            rows[names[name]].append(texts)
    return {names[obj.name]: (_header(contract, obj), rows[names[obj.name]]) for obj in objects}


def _object(contract: Contract, file: PollutedFile, told: bool) -> InputObject:
    read_as = f"{READ_AS}{encode_options(file.options)}/" if told and file.options else ""
    name = f"incoming/{contract.stream}/{read_as}{file.name}.csv"
    return InputObject(name, datetime.now(UTC), len(file.content), lambda: io.BytesIO(file.content))


def _header(contract: Contract, obj: InputObject) -> list[str]:
    """Return the contract's fields that the file's header names."""
    layout = csv_layout(contract, obj)
    places = layout.places if layout else ()
    return [field.source for field, place in zip(contract.fields, places, strict=False) if place is not None]


def _text_sql(field: Field) -> str:
    """Write a value as the files have it."""
    name = quote(field.name)
    text = f"strftime({name}, '%d/%m/%Y')" if field.format else f"cast({name} as varchar)"
    return f"coalesce({text}, '')"


def read_with_duckdb(files: Iterable[PollutedFile], *, told: bool) -> dict[str, Table]:
    """Read files as text with DuckDB's reader, which skips rows with errors. A file that it can't read has no table."""
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, duckdb.connect() as database:
        path = Path(folder) / "polluted.csv"
        for file in files:
            path.write_bytes(file.content)
            options = _duckdb_options(file) if told else {"all_varchar": "true"}
            arguments = "".join(f", {name} = {value}" for name, value in options.items())
            try:
                relation = database.sql(f"from read_csv('{path}', ignore_errors = true{arguments})")
                rows = [[text or "" for text in row] for row in relation.fetchall()]
            except duckdb.Error:
                continue
            tables[file.name] = (relation.columns if file.header else (), rows)
    return tables


def _duckdb_options(file: PollutedFile) -> Mapping[str, str]:
    """Describe all that is known of the file, as Pollock's own script does."""
    options: dict[str, Any] = {"delimiter": ",", "quote": '"', "escape": "", "skip": 0, "header": True} | file.options
    names = options.get("columns", [field.source for field in CONTRACT.fields])
    return {
        "auto_detect": "false",
        "strict_mode": "false",
        "null_padding": "true",
        "header": "false",
        "skip": str(options["skip"] + options["header"]),
        "delim": literal(options["delimiter"]),
        "quote": literal(options["quote"]),
        "escape": literal(options["escape"] or options["quote"]),
        "columns": "{" + ", ".join(f"{literal(name)}: 'varchar'" for name in names) + "}",
    }


def judge(file: PollutedFile, table: Table | None) -> Result:
    """Score what was read of a file; None if it could not be read."""
    if table is None:
        return Result(file.kind, 0.0, 0)
    header, rows = table
    whole = 1 + sum(
        sum(_measures(expected, found))
        for expected, found in (
            (file.header, header),
            (["".join(row) for row in file.rows], ["".join(row) for row in rows]),
            (list(chain(file.header, *file.rows)), list(chain(header, *rows))),
        )
    )
    wrong = Counter(map(tuple, rows)) - Counter(map(tuple, file.rows))
    return Result(file.kind, whole, wrong.total())


def _measures(expected: Sequence[Any], found: Sequence[Any]) -> tuple[float, float, float]:
    """Return precision, recall and F1 of what was found, each as often as it is there."""
    common = (Counter(expected) & Counter(found)).total()
    if not expected:
        return 1.0, 1.0, 1.0
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(found), common / len(expected)
    return precision, recall, 2 * precision * recall / (precision + recall)
