"""Read sample files of a stream that has no contract yet: all columns as texts, with the kinds of values they hold.

Files are read by the landing readers, with a contract of texts alone, so that `load` reads the same.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import pyarrow as pa

from lakehouse.contracts.casts import DOUBLE
from lakehouse.contracts.dialect import DEFAULT_DIALECT, Dialect, read_dialect
from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.odcs import NAME, RESERVED
from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.readers import InputObject, bronze_batches, json_text
from lakehouse.landing.readers.content import DamagedContentError, decompressed_chunks
from lakehouse.landing.readers.csv_blocks import csv_layout
from lakehouse.landing.readers.json_text import Pairs, Value
from lakehouse.landing.readers.parquet import parquet_types
from lakehouse.landing.readers.relation import format_of
from lakehouse.landing.readers.rows import DEFECT, EXTRA, bronze_schema
from lakehouse.landing.readers.signatures import foreign_content

Shape = Literal["text", "number", "boolean", "list", "nested"]
"""The kind of a value in its file. CSV has only text. `list` is a list of texts, `nested` any other list or object."""

MAX_ROWS = 200_000
"""Rows of a file that are read."""

SEARCH_ROWS = 300
"""Rows by which dialects are compared."""

MIN_SHARE = 0.9
"""Share of rows that a dialect has to read."""

START_BYTES = 64 << 10
MAX_CONTROL_SHARE = 0.01
"""Share of control characters from which on content is binary. Text has none, random bytes have a tenth."""

_CONTROLS = bytes({*range(32)} - set(b"\0\t\n\r\f\v\x1a"))

_DIALECTS: Sequence[Mapping[str, Any]] = (
    {},
    *({"encoding": name} for name in ("cp1252", "utf-16-le", "utf-16-be")),
    *({"skip": lines} for lines in range(1, 8)),
    *({"comment": "#"}, {"quote": "'"}, {"escape": "\\"}, {"trailingDelimiter": True}),
    *({"delimiter": text} for text in (":", "^", "~")),
)
"""The dialects that are tried in this order; the first that reads most rows is taken."""

_NUMBER, _DATE = re.compile(DOUBLE), re.compile(r"\d{4}-\d{2}-\d{2}.*")

_NUMBERED = re.compile(r" \(\d+\)$")

_PROBE = Field("probe", FieldType("string"), "a name that no event has")


@dataclass(frozen=True, slots=True)
class SampleColumn:
    """A column: its name in files, its values as texts in the order of the rows, and the shapes of them."""

    name: str
    texts: Sequence[str | None]
    shapes: frozenset[Shape]
    is_csv: bool = False
    absent_in: Sequence[str] = ()
    """The files that do not have it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The columns of sample files, how those are written, and why rows of them could not be read."""

    columns: Sequence[SampleColumn]
    rows: int
    dialect: Dialect
    defects: Mapping[str, int] = field(default_factory=dict)
    is_cut: bool = False
    """Whether the files have further rows."""


def read_sample(objects: Sequence[InputObject]) -> Sample:
    """Read the files of one stream. Raises UnreadableSourceError if one can't be read, or they disagree entirely."""
    samples = {obj.name: _read(obj) for obj in objects}
    dialects = {sample.dialect for sample in samples.values()}
    if len(dialects) > 1:
        written = "; ".join(
            f"{name} with {sample.dialect.options() or 'the defaults'}" for name, sample in samples.items()
        )
        raise UnreadableSourceError(f"The files are written differently: {written}. Give files of one dialect.")
    columns = [*_merged(samples)]
    if len(samples) > 1 and all(column.absent_in for column in columns):
        names = "; ".join(f"{name} has {', '.join(c.name for c in s.columns)[:100]}" for name, s in samples.items())
        raise UnreadableSourceError(f"The files have no column in common: {names}. Give files of one stream.")
    return Sample(
        columns,
        sum(sample.rows for sample in samples.values()),
        dialects.pop(),
        sum((Counter(sample.defects) for sample in samples.values()), Counter[str]()),
        any(sample.is_cut for sample in samples.values()),
    )


def field_names(columns: Iterable[str]) -> dict[str, str]:
    """Choose a field's name for each column. One that is no name, or is the lakehouse's, gets another that no column has."""
    columns = [*columns]
    plain = {column.lower(): column for column in reversed(columns) if NAME.fullmatch(column.lower())}
    chosen = {column: name for name, column in plain.items() if name not in RESERVED}
    taken = {*plain, *RESERVED}
    for number, column in enumerate(columns, 1):
        if column in chosen:
            continue
        stem = re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")[:50]
        stem = stem if stem[:1].isalpha() else f"column_{stem or number}"
        candidates = (stem if n == 1 else f"{stem}_{n}" for n in range(1, len(columns) + len(RESERVED) + 2))
        chosen[column] = next(name for name in candidates if name not in taken)
        taken.add(chosen[column])
    return {column: chosen[column] for column in columns}


def draft_contract(fields: Sequence[Field], dialect: Dialect) -> Contract:
    """Make a contract that only names fields, to read files with."""
    return Contract("sample", "1.0.0", "", "", tuple(fields), "", dialect=dialect)


def _merged(samples: Mapping[str, Sample]) -> Iterator[SampleColumn]:
    """Yield the columns of all files, each with the rows of one file after the other's."""
    by_file = {name: {column.name.lower(): column for column in sample.columns} for name, sample in samples.items()}
    for key in dict.fromkeys(key for columns in by_file.values() for key in columns):
        parts = {name: columns.get(key) for name, columns in by_file.items()}
        present = [part for part in parts.values() if part is not None]
        texts: list[str | None] = []
        for name, part in parts.items():
            texts += part.texts if part is not None else [None] * samples[name].rows
        absent = [name for name, part in parts.items() if part is None]
        yield SampleColumn(
            present[0].name,
            texts,
            frozenset().union(*(part.shapes for part in present)),
            all(part.is_csv for part in present),
            absent,
        )


def _read(obj: InputObject) -> Sample:
    if foreign := foreign_content(obj):
        raise UnreadableSourceError(f"Can't infer a contract from {obj.name}: {foreign}.")
    file_format = format_of(obj)
    if file_format != "parquet" and _is_binary(obj):
        raise UnreadableSourceError(f"Can't infer a contract from {obj.name}: it is neither text nor Parquet.")
    sample = _READERS[file_format](obj)
    if not sample.rows:
        reason = next(iter(sample.defects), "it holds no rows; give a sample with at least one")
        raise UnreadableSourceError(f"Can't infer a contract from {obj.name}: {reason}.")
    return sample


def _is_binary(obj: InputObject) -> bool:
    start = b""
    try:
        for chunk in decompressed_chunks(obj):
            start += chunk
            if len(start) >= START_BYTES:
                break
    except DamagedContentError:
        pass  # a row says so
    controls = len(start) - len(start.translate(None, _CONTROLS))
    return controls > MAX_CONTROL_SHARE * len(start)


def _read_csv(obj: InputObject) -> Sample:
    best = _csv_sample(obj, DEFAULT_DIALECT, SEARCH_ROWS)
    _check_names(obj, [column.name for column in best.columns])
    if best.defects or not best.rows or len(best.columns) < 2:
        tried = [_csv_sample(obj, read_dialect(options), SEARCH_ROWS) for options in _DIALECTS]
        best = max(tried, key=_readable)
    return _csv_sample(obj, best.dialect, MAX_ROWS)


def _readable(sample: Sample) -> tuple[bool, int, float]:
    """Rank how a file is read: whether most rows are, by the number of columns, then by the share of rows."""
    share = sample.rows / max(sample.rows + sum(sample.defects.values()), 1)
    return share >= MIN_SHARE, len(sample.columns), share


def _check_names(obj: InputObject, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        key = _NUMBERED.sub("", name).lower()
        if key in seen:
            raise UnreadableSourceError(
                f"Can't infer a contract from {obj.name}: column {_NUMBERED.sub('', name)} appears twice. Rename one."
            )
        seen.add(key)


def _csv_sample(obj: InputObject, dialect: Dialect, max_rows: int) -> Sample:
    layout = csv_layout(draft_contract([_PROBE], dialect), obj)
    names = [name for _, name in layout.extras] if layout else []
    is_row = any(map(_DATE.fullmatch, names)) or (names and all(map(_NUMBER.fullmatch, names)))
    if layout and is_row:
        columns = tuple(f"column_{number}" for number in range(1, layout.width + 1))
        dialect = replace(dialect, header=False, columns=columns)
        return _text_sample(obj, columns, dialect, max_rows)
    sample = _text_sample(obj, names, dialect, max_rows)
    # A column without a name can't be a field; bronze keeps it as `column 3`.
    return replace(
        sample, columns=[c for n, c in enumerate(sample.columns, 1) if c.name != f"column {n}" or any(c.texts)]
    )


def _read_parquet(obj: InputObject) -> Sample:
    types = parquet_types(obj)
    flat = [name for name, kind in types.items() if not kind.startswith(("list<", "large_list<", "struct<", "map<"))]
    sample = _text_sample(obj, flat, DEFAULT_DIALECT, MAX_ROWS)
    lists = [
        name for name, kind in types.items() if re.fullmatch(r"(large_)?list<\w+: (large_)?string( not null)?>", kind)
    ]
    others = [name for name in types if name not in flat and name not in lists]
    columns = [
        *sample.columns,
        *(column for name in lists for column in _text_sample(obj, [name], DEFAULT_DIALECT, MAX_ROWS, "list").columns),
        *(SampleColumn(name, [None] * sample.rows, frozenset({"nested"})) for name in others),
    ]
    return replace(sample, columns=sorted(columns, key=lambda column: [*types].index(column.name)))


def _text_sample(
    obj: InputObject, names: Sequence[str], dialect: Dialect, max_rows: int, kind: Literal["string", "list"] = "string"
) -> Sample:
    """Read these columns as texts, or as lists of texts."""
    fields = [Field(name, FieldType(kind), column) for column, name in field_names(names).items()]
    rows, is_cut = _rows(draft_contract(fields or [_PROBE], dialect), obj, max_rows)
    sound = rows.filter(rows.column(DEFECT).is_null())
    defects = Counter(reason for reason in rows.column(DEFECT).to_pylist() if reason is not None)
    shape: Shape = "list" if kind == "list" else "text"
    columns = [
        SampleColumn(f.source, sound.column(f.name).to_pylist(), frozenset({shape}), is_csv=format_of(obj) == "csv")
        for f in fields
    ]
    return Sample(columns, sound.num_rows, dialect, dict(defects.most_common()), is_cut)


def _read_json(obj: InputObject) -> Sample:
    contract = draft_contract([_PROBE], DEFAULT_DIALECT)
    rows, is_cut = _rows(contract, obj, MAX_ROWS)
    defects = Counter(reason for reason in rows.column(DEFECT).to_pylist() if reason is not None)
    sound = rows.filter(rows.column(DEFECT).is_null())
    events = [_members(text) for text in sound.column(EXTRA).to_pylist()]
    # No JSON path names a member `*`, or one without a name.
    names = dict.fromkeys(name for event in events for name in event if name.strip() not in ("", "*"))
    columns = [_json_column(name, [event.get(name) for event in events]) for name in names]
    return Sample(columns, len(events), DEFAULT_DIALECT, dict(defects.most_common()), is_cut)


def _members(text: str | None) -> dict[str, Value]:
    value = json_text.parse(text) if text else None
    return dict(value) if isinstance(value, Pairs) else {}


def _json_column(name: str, values: Sequence[Value]) -> SampleColumn:
    shapes = [None if value is None else _shape(value) for value in values]
    texts = [_json_text(value, shape) for value, shape in zip(values, shapes, strict=True)]
    return SampleColumn(name, texts, frozenset(shape for shape in shapes if shape is not None))


def _shape(value: Value) -> Shape:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, json_text.Literal):
        return "number"
    if isinstance(value, str):
        return "text"
    items = value or []
    is_list = not isinstance(value, Pairs) and all(type(item) is str for item in items)
    return "list" if is_list else "nested"


def _json_text(value: Value, shape: Shape | None) -> str | None:
    if shape in ("text", "number"):
        return str(value)
    if shape == "boolean":
        return "true" if value else "false"
    return json_text.dump(value) if shape == "list" else None


def _rows(contract: Contract, obj: InputObject, max_rows: int) -> tuple[pa.Table, bool]:
    """Read the first rows, and whether there are more."""
    batches, count = [], 0
    for batch in islice(bronze_batches(contract, [obj]), max_rows + 1):
        batches.append(batch)
        count += batch.num_rows
        if count > max_rows:
            break
    if not batches:
        return bronze_schema(contract).empty_table(), False
    return pa.Table.from_batches(batches).slice(0, max_rows), count > max_rows


_READERS = {"csv": _read_csv, "json": _read_json, "parquet": _read_parquet}
