"""Generate the SQL that casts and validates a stream's rows. Realtime and silver both use it, so no rule is written twice.

Its input is a relation of bronze rows: all fields as text, and `BRONZE_COLUMNS`. See `engine` for running it.
"""

from collections.abc import Mapping

from lakehouse.contracts.casts import AMBIGUOUS_TIME, THOUSANDS, field_value_sql
from lakehouse.contracts.model import MAX_TEXT_BYTES, Contract, Field, Kind

BRONZE_COLUMNS = ("_extra", "_raw", "_defect", "_object", "_row", "_arrived_at")
"""The columns of a bronze row beside its fields: unknown fields as JSON; the row's exact text and the reader's reasons if it
can't be read; the landing object, the row's number in it, and when it arrived (UTC)."""


def quote(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def day_sql(contract: Contract, source: str = "bronze") -> str:
    """Give a bronze row its `dt`: the date of its event time, or of its arrival if the event time is a breach."""
    event_time = contract.field(contract.event_time)
    time = field_value_sql(contract, event_time, f"{source}.{quote(event_time.name)}")
    arrived = f"{source}._arrived_at"
    return (
        f"case when {time} >= {_history_start(contract)} and {time} <= {arrived} + interval 1 day"
        f" then cast({time} as date) else cast({arrived} as date) end"
    )


def clean_sql(contract: Contract, source: str = "bronze") -> str:
    """Select all rows of `source`: typed fields, dt, _arrived_at, _object, _row, and whether the row is `_valid`."""
    fields = ",\n  ".join(quote(f.name) for f in contract.fields)
    return f"""select
  {fields},
  dt,
  _arrived_at,
  _object,
  _row,
  {_valid_sql(contract)} as _valid
from {_typed(contract, source)}"""


def verdict_sql(contract: Contract, source: str) -> str:
    """Select for each row of `source` its `_number`, whether it is `_valid`, and `raw_hash`, the hash of its raw text."""
    raw = raw_sql(contract, {f.name: _text(f) for f in contract.fields})
    return f"""select
  _number,
  {_valid_sql(contract)} as _valid,
  hash({raw}) as raw_hash
from {_typed(contract, source, "_number")}"""


def field_check_sql(contract: Contract, field: Field, source: str) -> str:
    """Check one field's distinct texts: select each text's number, its typed value, and whether it is `sound`.

    `source` has the columns `number`, `text` and `_arrived_at`. A sound text breaks no rule of this field in any row that
    arrived then or later. A row without a defect whose fields are all sound is valid. Rows may come in another order,
    because DuckDB turns a long list of allowed values into a join.
    """
    broken = "\n    or ".join(f"({condition})" for condition, _ in _field_breaches(contract, field))
    name = quote(field.name)
    return f"""select
  _number as number,
  {name} as value,
  case when {broken} then false else true end as sound
from (
  select
    {source}.number as _number,
    {field_value_sql(contract, field, f"{source}.text")} as {name},
    {source}.text as {_text(field)},
    {source}._arrived_at,
    cast(null as varchar) as _defect
  from {source}
) as typed"""


def quarantine_sql(contract: Contract, source: str = "bronze") -> str:
    """Select the rows of `source` that break the contract: dt, raw text, every reason, origin, and `_defect`."""
    rules = [(field, *rule) for field in contract.fields for rule in _field_breaches(contract, field)]
    reasons = [f"case when {condition} then {_reason_sql(field, reason)} end" for field, condition, reason in rules]
    every_reason = ",\n    ".join(["_defect", *reasons])
    raw = raw_sql(contract, {f.name: _text(f) for f in contract.fields})
    return f"""select
  dt,
  {raw} as raw,
  list_filter([
    {every_reason}
  ], lambda _reason: _reason is not null) as reasons,
  _object,
  _row,
  _arrived_at,
  _defect
from {_typed(contract, source)}
where len(reasons) > 0"""


_LONG_NUMBER = "[0-9][0-9.]{15}|[eE]-[0-9]{3}"
"""In JSON, a number that DuckDB may write back as another one, because it takes it for a double."""


def raw_sql(contract: Contract, texts: Mapping[str, str] | None = None) -> str:
    """Return a bronze row's raw text: as it arrived if it could not be read, else its fields as a JSON object.

    `texts` maps a field to the column that holds its text, where that is not the field's own.
    """
    fields = ", ".join(f"{literal(f.source)}, {(texts or {}).get(f.name, quote(f.name))}" for f in contract.fields)
    # Merging drops nulls (RFC 7396), so a field that was absent stays absent.
    alone, merged = (
        f"json_merge_patch({extra}::json, json_object({fields}))::varchar"
        for extra in ("'{}'", "coalesce(_extra, '{}')")
    )
    joined = f"if({alone} = '{{}}', _extra, left(_extra, -1) || ',' || substr({alone}, 2))"
    return f"coalesce(_raw, case when regexp_matches(_extra, '{_LONG_NUMBER}') then {joined} else {merged} end)"


def not_of_kind(field: Field) -> str:
    """Return the reason for a text that is no value of the field's type."""
    return f"{field.name} is not {_kind_in_words(field)}"


def latest_sql(key: tuple[str, ...], source: str, where: str = "true") -> str:
    """Select the latest arrival of each key within a `dt`."""
    keys = ", ".join(map(quote, key))
    return f"""select *
from {source}
where {where}
qualify row_number() over (
  partition by dt, {keys}
  order by _arrived_at desc, _object desc, _row desc
) = 1"""


def _valid_sql(contract: Contract) -> str:
    """Write the SQL that tells whether a typed row is valid."""
    rules = (rule for field in contract.fields for rule in _field_breaches(contract, field))
    broken = "\n    or ".join(["_defect is not null", *(f"({condition})" for condition, _ in rules)])
    return f"case when {broken} then false else true end"


def _text(field: Field) -> str:
    """Name the column that holds a field's text beside its typed value."""
    return quote(f"{field.name} as text")


def _typed(contract: Contract, source: str, *more: str) -> str:
    """Select typed values beside their texts, so that each is cast once, however many rules use it; and columns `more`."""
    values = ",\n    ".join(
        f"{field_value_sql(contract, f, f'{source}.{quote(f.name)}')} as {quote(f.name)}"
        f",\n    {source}.{quote(f.name)} as {_text(f)}"
        for f in contract.fields
    )
    rest = ", ".join(f"{source}.{name}" for name in ("dt", *BRONZE_COLUMNS, *more))
    return f"(\n  select\n    {values},\n    {rest}\n  from {source}\n) as typed"


def _history_start(contract: Contract) -> str:
    return f"timestamp '{contract.history_start} 00:00:00'"


_ARTICLES = {"integer": "an integer of 64 bits", "boolean": "true or false", "list": "a list of texts"}


def _field_breaches(contract: Contract, field: Field) -> list[tuple[str, str]]:
    """List the field's rules as (SQL over typed rows that is true for a breach, reason)."""
    name, kind = field.name, field.type.kind
    text, value = _text(field), quote(name)
    rules: list[tuple[str, str]] = []
    if field.required:
        # A row that can't be read lacks all fields. Its defect is the only reason.
        rules.append((f"({text} is null or {text} = '') and _defect is null", f"{name} is missing"))
    if kind == "string":
        rules.append((f"strlen({text}) > {MAX_TEXT_BYTES}", f"{name} is longer than {MAX_TEXT_BYTES} bytes"))
    else:
        rules.append((f"{text} <> '' and {value} is null", not_of_kind(field)))
    for bound, comparison, words in (
        (field.minimum, "<", "below"),
        (field.maximum, ">", "above"),
        (field.exclusive_minimum, "<=", "not above"),
        (field.exclusive_maximum, ">=", "not below"),
    ):
        if bound is not None:
            rules.append((f"{value} {comparison} {bound}", f"{name} is {words} {bound}"))
    if field.enum:
        allowed = ", ".join(map(literal, field.enum))
        rules.append((f"{text} <> '' and {text} not in ({allowed})", f"{name} is none of {', '.join(field.enum)}"))
    if field.pattern is not None:
        rules.append(
            (
                f"{text} <> '' and not regexp_matches({text}, {literal(field.pattern)})",
                f"{name} does not match {field.pattern}",
            )
        )
    if field.min_length is not None:
        rules.append(
            (f"{text} <> '' and length({text}) < {field.min_length}", f"{name} is shorter than {field.min_length}")
        )
    if field.max_length is not None:
        rules.append((f"length({text}) > {field.max_length}", f"{name} is longer than {field.max_length} characters"))
    if name == contract.event_time:
        rules.append(
            (
                f"{value} < {_history_start(contract)}",
                f"{name} lies before {contract.history_start}, where the history starts",
            )
        )
        rules.append((f"{value} > _arrived_at + interval 1 day", f"{name} lies more than a day after arrival"))
    return rules


_AMBIGUOUS: dict[Kind, tuple[str, str]] = {
    "integer": (
        THOUSANDS,
        "its point may mark thousands, so write 1 as 1 and 1000 as 1000, or declare the decimal mark",
    ),
    "timestamp": (AMBIGUOUS_TIME, "declare its `format` in the contract"),
}
"""The texts of each kind that may mean two values, and what to do about them."""


def _reason_sql(field: Field, reason: str) -> str:
    """Write the SQL of a reason. That for a text that may mean two values says what to do about it."""
    if field.type.kind not in _AMBIGUOUS or field.format or reason != not_of_kind(field):
        return literal(reason)
    pattern, advice = _AMBIGUOUS[field.type.kind]
    is_ambiguous = f"regexp_full_match({_text(field)}, {literal(pattern)})"
    return f"case when {is_ambiguous} then {literal(f'{reason}: {advice}')} else {literal(reason)} end"


def _kind_in_words(field: Field) -> str:
    match field.type.kind:
        case "decimal":
            return f"a decimal of at most {field.type.precision} digits, {field.type.scale} after the point"
        case "double":
            return "a finite number"
        case "timestamp":
            iso = "a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second)"
            return " or ".join([iso, *(form.text for form in field.format)])
        case kind:
            return _ARTICLES[kind]
