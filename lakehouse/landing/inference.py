"""Infer a contract from a sample: types, key, event time, enumerations and dialect, by the casts that check rows later."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import combinations
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.contracts.casts import DOUBLE, field_value_sql
from lakehouse.contracts.dialect import DEFAULT_DIALECT, Dialect, read_dialect
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.model import DEFAULT_HISTORY_START, Contract, Field, FieldType
from lakehouse.contracts.time_formats import TimeFormat, read_time_format
from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.inspection import NULLS, time_formats
from lakehouse.landing.readers.spelling import Spelling
from lakehouse.landing.samples import Sample, SampleColumn, draft_contract, field_names

Choose = Callable[[str, Sequence[str]], str]
"""Answers a question with one of the choices, of which the first is the best guess."""

MIN_ROWS = 10
"""Rows from which on a complete column is required. Of fewer, too little is known."""

MIN_KEY_ROWS = 100
"""Rows from which on a unique column whose name is not that of a key may be one."""

MIN_ENUM_ROWS, MAX_ENUM_VALUES, MAX_ENUM_CHARACTERS, MIN_REPETITIONS = 20, 12, 40, 3
"""A text column is an enumeration if it has this many rows and repeats so few short values so often."""

MAX_KEY_CANDIDATES = 60
MAX_MONEY_SCALE = 4
MIN_TIME_SHARE = 0.9
"""Share of times in a column that dates events although some of its values are none."""

FIRST_HISTORY = date(1900, 1, 1)
"""No history starts earlier, because each day since is a partition."""

_MONEY = re.compile(r"price|amount|cost|total|revenue|fee|tax|balance|salary|wage|budget|paid")
_TIME = re.compile(r"time|date|(^|_)(day|at|ts|when|epoch|created|timestamp|datum|zeit)($|_)")
_NOT_EVENT_TIME = re.compile(r"birth|dob|expir|due|until|updated|modified|deleted|end|valid|delivery")
_IDENTITY = re.compile(r"(^|_)(id|uuid|guid|key|no|nr|number|code|sku|isbn|ean|hash|ref|reference)$")

_SENSITIVE: Mapping[str, tuple[re.Pattern[str], re.Pattern[str] | None]] = {
    "e-mail address": (re.compile(r"e_?mail"), re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")),
    "phone number": (re.compile(r"phone|mobile|telefon|(^|_)tel$"), None),
    "name of a person": (re.compile(r"(first|last|full|sur|family|given|maiden)_?name|(^|_)(surname|nachname)$"), None),
    "postal address": (re.compile(r"address|street|postal|post_?code|zip"), None),
    "IP address": (re.compile(r"(^|_)ip(_|$)|ip_?addr"), re.compile(r"(\d{1,3}\.){3}\d{1,3}|[0-9a-f:]+:[0-9a-f:]{2,}")),
    "date of birth": (re.compile(r"birth|(^|_)dob$"), None),
    "document or account number": (re.compile(r"iban|passport|ssn|tax_id|credit_card|card_number|licen[cs]e"), None),
}
"""Kinds of personal data, recognised by the column's name or by all of its values."""

MAX_PRECISION = 38

_ORDERED = ("integer", "decimal", "double", "timestamp")
_NUMBER = re.compile(DOUBLE)
_DIGITS_OF_TEXT = re.compile(r"\+|0\d")
_MAY_BE_TIME = re.compile(r"\d{1,4}[-./ ]|[A-Za-z]{3,9}\.? \d")

_EPOCHS = {10: "epoch s", 13: "epoch ms", 16: "epoch us", 19: "epoch ns"}
_MARKS = (
    {"decimal": ",", "thousands": "."},
    {"thousands": ","},
    {"decimal": ","},
    {"decimal": ",", "thousands": " "},
    {"thousands": " "},
    {"thousands": "'"},
)


@dataclass(frozen=True, slots=True)
class Inference:
    """A contract, what a reader of it should know of each field, and of the whole."""

    contract: Contract
    comments: Mapping[str, Sequence[str]]
    sensitive: Mapping[str, str]
    """The fields that may hold personal data, and of which kind."""
    notes: Sequence[str]


@dataclass(slots=True)
class _Guess:
    """One column: its field, and what was counted."""

    column: SampleColumn
    field: Field
    filled: int
    distinct: int
    nulls: frozenset[str] = frozenset()
    """Texts that stand for no value."""
    limits: tuple[Any, Any] = (None, None)
    """The lowest and the highest value of numbers and times."""
    comments: tuple[str, ...] = ()


def infer(stream: str, sample: Sample, choose: Choose = lambda _, choices: choices[0]) -> Inference:
    """Infer the contract of a stream. Raises UnreadableSourceError if no column can be the event time."""
    notes = [_nested_note(column.name) for column in sample.columns if "nested" in column.shapes]
    columns = [column for column in sample.columns if "nested" not in column.shapes]
    names = field_names(column.name for column in sample.columns)  # no field has the name of a column that is none
    columns, dialect, spelt = _without_marks(columns, sample.dialect)
    notes += spelt
    with open_in_memory() as database:
        database.execute("set timezone = 'UTC'")
        guessed = {column.name: _guess(database, column, names[column.name], choose) for column in columns}
        if not any(guess and guess.field.type.kind == "timestamp" for guess in guessed.values()):
            _take_nearly_times(database, [guess for guess in guessed.values() if guess])
    notes += [
        f"{name} holds values of several kinds; bronze keeps it in _extra" for name, g in guessed.items() if not g
    ]
    guesses = [guess for guess in guessed.values() if guess is not None]
    event_time = _event_time(guesses, choose)
    key = _key(guesses, event_time.field.name, sample.rows, choose, notes)
    for guess in guesses:
        _complete(guess, key, event_time is guess, sample.rows)
    nulls = tuple(text for text in NULLS if any(text in guess.nulls for guess in guesses))
    contract = Contract(
        stream,
        "1.0.0",
        description="",
        owner="lakehouse",
        fields=tuple(guess.field for guess in guesses),
        event_time=event_time.field.name,
        history_start=_history_start(event_time.limits[0]),
        dialect=replace(dialect, nulls=nulls),
    )
    sensitive = {guess.field.name: kind for guess in guesses if (kind := _sensitive(guess))}
    return Inference(contract, {guess.field.name: guess.comments for guess in guesses}, sensitive, notes)


def _complete(guess: _Guess, key: Sequence[str], is_event_time: bool, rows: int) -> None:
    """Add what depends on the other columns: whether it is the key, required, or an enumeration."""
    name, absent_in = guess.field.name, guess.column.absent_in
    is_whole = guess.filled == rows and not absent_in
    is_required = is_event_time or (is_whole and (rows >= MIN_ROWS or name in key))
    guess.field = replace(guess.field, key=name in key, required=is_required)
    if name not in key:
        _add_enumeration(guess, rows)
    if absent_in:
        guess.comments += (f"not in {', '.join(absent_in)}",)


def _nested_note(name: str) -> str:
    return f"{name} holds objects or lists that are not of texts; bronze keeps it in _extra"


def _without_marks(columns: Sequence[SampleColumn], dialect: Dialect) -> tuple[list[SampleColumn], Dialect, list[str]]:
    """Find the decimal mark and the mark of thousands with which most columns are numbers, and write those plainly."""
    counted = [(sum(_plain(column, dialect) is not None for column in columns), dialect)]
    for marks in _MARKS:
        marked = read_dialect(marks, dialect)
        counted.append((sum(_plain(column, marked) is not None for column in columns), marked))
    most, best = max(counted, key=lambda pair: pair[0])
    if best is dialect:
        return list(columns), dialect, []
    equal = [other for count, other in counted if count == most and other is not best]
    notes = [f"numbers are written with {_marks(best)}" + (f", or with {_marks(equal[0])}: check it" if equal else "")]
    return [_plain(column, best) or column for column in columns], best, notes


def _marks(dialect: Dialect) -> str:
    marks = f"the decimal mark {dialect.decimal or '.'!r}"
    return f"{marks} and {dialect.thousands!r} between thousands" if dialect.thousands else marks


def _plain(column: SampleColumn, dialect: Dialect) -> SampleColumn | None:
    """Write a column of numbers plainly. None if some value is no number in this dialect, which only CSV files have."""
    texts = [None if text in ("", *NULLS) else text for text in column.texts]
    if not column.is_csv or column.shapes != {"text"} or not any(texts):
        return None
    spelling = Spelling(draft_contract([Field("n", FieldType("double"), "n")], DEFAULT_DIALECT), dialect)
    if spelling.is_plain:
        spelling = Spelling(
            draft_contract([Field("n", FieldType("double"), "n")], DEFAULT_DIALECT), replace(dialect, decimal=".")
        )
    plain = spelling.columns([pa.array(texts, pa.string())])
    if plain is None:
        return None
    written = zip(column.texts, plain[0].to_pylist(), strict=True)
    return replace(column, texts=[text if number is None else number for text, number in written])


def _guess(database: duckdb.DuckDBPyConnection, column: SampleColumn, name: str, choose: Choose) -> _Guess | None:
    """Guess a column's type. None if no type holds all of its values."""
    # Only CSV has texts that stand for no value.
    for nulls in ((), NULLS) if column.is_csv else ((),):
        texts = [None if text == "" or text in nulls else text for text in column.texts]
        filled = [text for text in texts if text is not None]
        database.register("sample", pa.table({"text": pa.array(texts, pa.string())}))
        holding = (made for made in _candidates(column, name, filled) if _holds(database, made))
        if filled and (made := next(holding, None)):
            guess = _Guess(replace(column, texts=texts), made, len(filled), len(set(filled)))
            guess.nulls = frozenset(nulls) & set(column.texts)
            if made.format:
                _choose_order(guess, [made, *holding], choose)
            if guess.field.type.kind in _ORDERED:
                guess.limits = _limits(database, guess.field)
                guess.comments += (f"{guess.limits[0]} to {guess.limits[1]} in the sample",)
            return guess
    if column.shapes - {"text"}:
        return None
    texts = [text or None for text in column.texts]
    filled = [text for text in texts if text is not None]
    return _Guess(
        replace(column, texts=texts), Field(name, FieldType("string"), column.name), len(filled), len(set(filled))
    )


def _take_nearly_times(database: duckdb.DuckDBPyConnection, guesses: Sequence[_Guess]) -> None:
    """Make a time of the first column of texts that are times but for a few, because an event needs one."""
    forms = [(), *((read_time_format(form),) for form in time_formats())]
    for guess in guesses:
        times = [text for text in guess.column.texts if text and _MAY_BE_TIME.match(text)]
        if guess.field.type.kind != "string" or len(times) < MIN_TIME_SHARE * len(guess.column.texts):
            continue
        database.register("sample", pa.table({"text": pa.array(times, pa.string())}))
        made = (replace(guess.field, type=FieldType("timestamp"), format=form) for form in forms)
        if field := next((field for field in made if _holds(database, field)), None):
            guess.field, guess.limits = field, _limits(database, field)
            return


def _candidates(column: SampleColumn, name: str, filled: Sequence[str]) -> Iterator[Field]:
    """Yield the fields that a column may be, the best first, except a text."""

    def made(kind: FieldType, form: str | None = None) -> Field:
        return Field(name, kind, column.name, format=(read_time_format(form),) if form else ())

    if "list" in column.shapes:
        yield made(FieldType("list"))
        return
    is_number = all(map(_NUMBER.fullmatch, filled))
    if is_number and _TIME.search(name):
        digits = {len(text.partition(".")[0]) for text in filled}
        yield from (made(FieldType("timestamp"), form) for length, form in _EPOCHS.items() if digits == {length})
        yield from [made(FieldType("timestamp"), "yyyyMMdd")] if digits == {8} else []
    if is_number:
        yield from map(made, _number_types(name, filled, is_text="text" in column.shapes))
        return
    yield from (made(FieldType("boolean")), made(FieldType("timestamp")))
    if filled and filled[0].startswith("["):
        yield made(FieldType("list"))
    if filled and _MAY_BE_TIME.match(filled[0]):
        yield from (made(FieldType("timestamp"), form) for form in time_formats())
    if "number" in column.shapes:
        yield made(FieldType("double"))


def _number_types(name: str, filled: Sequence[str], *, is_text: bool) -> Iterator[FieldType]:
    """Yield the types of a column of numbers. Texts of digits that are no quantities, such as 00123, stay texts."""
    if is_text and any(map(_DIGITS_OF_TEXT.match, filled)):
        return
    parts = [text.lstrip("+-").partition(".") for text in filled]
    scale, whole = max(len(part[2]) for part in parts), max(len(part[0]) for part in parts)
    is_exact = not any("e" in text.lower() for text in filled)
    is_money = bool(_MONEY.search(name)) or all(len(part[2]) == 2 for part in parts)
    if is_exact and is_money and scale <= MAX_MONEY_SCALE and whole + MAX_MONEY_SCALE <= MAX_PRECISION:
        scale = max(scale, 2)
        yield FieldType("decimal", max(18, whole + scale), scale)
    yield FieldType("integer")
    if is_exact and not scale:
        if is_text:
            return  # more digits than an integer has are no quantity
        yield FieldType("decimal", MAX_PRECISION, 0)
    yield FieldType("double")


def _holds(database: duckdb.DuckDBPyConnection, made: Field) -> bool:
    value = field_value_sql(draft_contract([made], DEFAULT_DIALECT), made, "sample.text")
    row = database.execute(f"select 1 from sample where text is not null and ({value}) is null limit 1").fetchone()
    return row is None


def _limits(database: duckdb.DuckDBPyConnection, made: Field) -> tuple[Any, Any]:
    value = field_value_sql(draft_contract([made], DEFAULT_DIALECT), made, "sample.text")
    low, high = database.execute(f"select min({value}), max({value}) from sample").fetchall()[0]
    return low, high


def _choose_order(guess: _Guess, fields: Sequence[Field], choose: Choose) -> None:
    """Choose a format where both the day and the month may come first."""
    first = fields[0].format[0]
    other = next(
        (f.format[0] for f in fields[1:] if f.format and _is_day_first(f.format[0]) != _is_day_first(first)), None
    )
    if other is not None:
        name = guess.column.name
        chosen = choose(f"The sample can't tell how {name} is written.", [first.text, other.text])
        guess.field = replace(guess.field, format=(read_time_format(chosen),))
        guess.comments += (f"the sample can't tell {first.text} from {other.text}",)


def _is_day_first(form: TimeFormat) -> bool:
    return form.text.find("d") < form.text.find("M")


def _event_time(guesses: Sequence[_Guess], choose: Choose) -> _Guess:
    """Choose the field that dates an event."""
    times = [guess for guess in guesses if guess.field.type.kind == "timestamp"]
    if not times:
        raise UnreadableSourceError(
            "No column holds times, and an event needs one that dates it. Add a column of times such as"
            " 2025-11-20T14:15:00Z to the file, or write the contract by hand (docs/streams.md)."
        )
    latest = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)

    def merit(guess: _Guess) -> tuple[object, ...]:
        name = guess.field.name
        return guess.filled, guess.limits[1] <= latest, not _NOT_EVENT_TIME.search(name), "event" in name

    by_name = {guess.field.name: guess for guess in sorted(times, key=merit, reverse=True)}
    return by_name[choose("Which field dates an event?", [*by_name])]


def _history_start(first: datetime) -> date:
    """Start the history with the year of the first event, if that is before the default."""
    start = max(date(first.year, 1, 1), FIRST_HISTORY)
    return min(start, DEFAULT_HISTORY_START)


def _key(guesses: Sequence[_Guess], event_time: str, rows: int, choose: Choose, notes: list[str]) -> tuple[str, ...]:
    """Choose the fields that tell events apart: the fewest whose values are unique in the sample."""
    usable = [guess for guess in guesses if guess.field.type.kind not in ("list", "boolean", "double")]
    usable.sort(
        key=lambda guess: (not _IDENTITY.search(guess.field.name), guess.field.name == event_time, -guess.distinct)
    )
    by_name = {guess.field.name: guess for guess in usable}
    candidates = [*_key_candidates([*by_name], event_time, rows)]
    unique = [
        names for names in candidates[:MAX_KEY_CANDIDATES] if _repeated([by_name[name] for name in names], rows) == 0
    ]
    if unique:
        choices = {", ".join(names): names for names in unique[:4]}
        return choices[choose("Which fields tell events apart (the key)?", [*choices])]
    keyed = [guess for guess in guesses if guess.field.type.kind != "list"]
    if repeated := _repeated(keyed, rows):
        notes.append(f"{repeated:,} rows repeat another in every column, and count once")
    return tuple(guess.field.name for guess in keyed)


def _key_candidates(names: Sequence[str], event_time: str, rows: int) -> Iterator[tuple[str, ...]]:
    """Yield sets of fields that may be the key, the best first."""
    identities = [name for name in names if _IDENTITY.search(name)]
    yield from ((name,) for name in (names if rows >= MIN_KEY_ROWS else identities) if name != event_time)
    yield from combinations(identities, 2)
    others = [name for name in names if name != event_time]
    yield from ((name, event_time) for name in others)
    yield from ((*pair, event_time) for pair in combinations(others[:6], 2))
    if not others:
        yield (event_time,)


def _repeated(guesses: Sequence[_Guess], rows: int) -> int:
    """Count the rows that repeat the values of another in these columns."""
    return rows - len(set(zip(*(guess.column.texts for guess in guesses), strict=True)))


def _add_enumeration(guess: _Guess, rows: int) -> None:
    values = sorted({text for text in guess.column.texts if text is not None})
    is_enumeration = (
        guess.field.type.kind == "string"
        and rows >= MIN_ENUM_ROWS
        and 2 <= len(values) <= MAX_ENUM_VALUES
        and guess.filled >= MIN_REPETITIONS * len(values)
        and all(len(value) <= MAX_ENUM_CHARACTERS and value.isprintable() for value in values)
        and _sensitive(guess) is None
    )
    if is_enumeration:
        guess.field = replace(guess.field, enum=tuple(values))


def _sensitive(guess: _Guess) -> str | None:
    """Say which kind of personal data a column may hold, by its name or by all of its values."""
    texts = [text for text in guess.column.texts[:MIN_KEY_ROWS] if text is not None]
    for kind, (name, value) in _SENSITIVE.items():
        if name.search(guess.field.name):
            return kind
        if value and texts and guess.field.type.kind == "string" and all(map(value.fullmatch, texts)):
            return kind
    return None
