"""Generate the SQL that casts and validates a stream's rows. Realtime and silver both use it, so no rule is written twice.

Its input is a relation of bronze rows: all fields as text, and `BRONZE_COLUMNS`. See `engine` for running it.
"""

from collections.abc import Mapping

from lakehouse.contracts.model import MAX_TEXT_BYTES, Contract, Field, FieldType

BRONZE_COLUMNS = ("_extra", "_raw", "_defect", "_object", "_row", "_arrived_at")
"""The columns of a bronze row beside its fields: unknown fields as JSON; the row's exact text and the reader's reasons if it
can't be read; the landing object, the row's number in it, and when it arrived (UTC)."""

_MANTISSA = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_EXPONENT = r"[eE][+-]?0*[0-9]{1,4}"
INTEGER = r"[+-]?[0-9]+(\.0*)?"
SCIENTIFIC = rf"{_MANTISSA}{_EXPONENT}"
DOUBLE = rf"{_MANTISSA}({_EXPONENT})?"
BOOLEAN = r"(?i)true|false"
_DATE = r"([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6}0*)?)?"
TIMESTAMP_UTC = rf"{_DATE}([T ]{_TIME}Z?)?"
TIMESTAMP_OFFSET = rf"{_DATE}[T ]{_TIME}[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?"
"""The texts that are cast to values. Each is matched whole first, because casts of engines accept different texts. Times are
ISO 8601, up to microseconds, because tables store no more; further digits of a second may only be zeros."""

MAX_ZEROS = 40
"""Zeros that an exponent adds at most to a number's text. With so many, no integer or decimal holds it."""


def quote(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def decimal_pattern(scale: int) -> str:
    """Build the pattern of exact decimals of `scale`: further decimals may only be zeros."""
    return rf"[+-]?([0-9]+(\.[0-9]{{0,{scale}}}0*)?|\.[0-9]{{1,{max(scale, 1)}}}0*)"


def plain_number_sql(text: str) -> str:
    """Write the SQL of a number with an exponent as one without, digit by digit: `1.79E+3` is `1790.`.

    A cast would round what the type can't hold. The text must match SCIENTIFIC.
    """
    mantissa = f"regexp_extract({text}, '[0-9.]+')"
    digits = f"ltrim(replace({mantissa}, '.', ''), '0')"
    exponent = f"cast(regexp_extract({text}, '[eE](.+)', 1) as integer)"
    shift = f"{exponent} - length(regexp_extract({mantissa}, '[.](.*)', 1))"
    decimals, zeros = f"greatest(-({shift}), 0)", f"least(greatest({shift}, 0), {MAX_ZEROS})"
    padded = f"lpad({digits}, greatest(length({digits}), {decimals} + 1)::integer, '0') || repeat('0', {zeros})"
    number = "left(n.digits, length(n.digits) - n.decimals) || '.' || right(n.digits, n.decimals)"
    sign = f"case when starts_with({text}, '-') then '-' else '' end"
    return f"{sign} || list_transform([{{'digits': {padded}, 'decimals': {decimals}}}], lambda n: {number})[1]"


def value_sql(field_type: FieldType, text: str) -> str:
    """Cast the SQL of a text to a typed value, which is null if the text is not such a value."""

    def matching(pattern: str, value: str) -> str:
        return f"case when regexp_full_match({text}, {literal(pattern)}) then {value} end"

    match field_type.kind:
        case "string":
            return text
        case "integer":
            return _exact_number(INTEGER, "bigint", text)
        case "double":
            finite = f"case when abs(try_cast({text} as double)) <= 1.7976931348623157e308 then try_cast({text} as double) end"
            return matching(DOUBLE, finite)
        case "decimal":
            return _exact_number(decimal_pattern(field_type.scale), field_type.sql, text)
        case "boolean":
            return matching(BOOLEAN, f"try_cast({text} as boolean)")
        case "timestamp":
            return (
                f"case when regexp_full_match({text}, {literal(TIMESTAMP_UTC)}) then try_cast({text} as timestamp)"
                f" when regexp_full_match({text}, {literal(TIMESTAMP_OFFSET)})"
                f" then try_cast({text} as timestamptz) at time zone 'UTC' end"
            )
        case "list":
            texts = f"len(list_filter(json_type({text}, '$[*]'), lambda kind: kind <> 'VARCHAR')) = 0"
            return (
                f"case when json_valid({text}) and json_type({text}) = 'ARRAY' and {texts}"
                f" then from_json({text}, '[\"VARCHAR\"]') end"
            )


def _exact_number(pattern: str, sql_type: str, text: str) -> str:
    """Cast a number that the type holds exactly, however it is written. Null if it isn't such a number."""
    plain = f"list_filter([{plain_number_sql(text)}], lambda plain: regexp_full_match(plain, {literal(pattern)}))[1]"
    return (
        f"case when regexp_full_match({text}, {literal(pattern)}) then try_cast({text} as {sql_type})"
        f" when regexp_full_match({text}, {literal(SCIENTIFIC)}) then try_cast({plain} as {sql_type}) end"
    )


def day_sql(contract: Contract, source: str = "bronze") -> str:
    """Give a bronze row its `dt`: the date of its event time, or of its arrival if the event time is a breach."""
    event_time = contract.field(contract.event_time)
    time = value_sql(event_time.type, f"{source}.{quote(event_time.name)}")
    arrived = f"{source}._arrived_at"
    return (
        f"case when {time} >= {_history_start(contract)} and {time} <= {arrived} + interval 1 day"
        f" then cast({time} as date) else cast({arrived} as date) end"
    )


def clean_sql(contract: Contract, source: str = "bronze") -> str:
    """Select all rows of `source`: typed fields, dt, _arrived_at, _object, _row, and whether the row is `_valid`."""
    fields = ",\n  ".join(quote(f.name) for f in contract.fields)
    broken = "\n    or ".join(["_defect is not null", *(f"({condition})" for condition, _ in _breaches(contract))])
    return f"""select
  {fields},
  dt,
  _arrived_at,
  _object,
  _row,
  case when {broken} then false else true end as _valid
from {_typed(contract, source)}"""


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
    {value_sql(field.type, f"{source}.text")} as {name},
    {source}.text as {_text(field)},
    {source}._arrived_at,
    cast(null as varchar) as _defect
  from {source}
) as typed"""


def quarantine_sql(contract: Contract, source: str = "bronze") -> str:
    """Select the rows of `source` that break the contract: dt, raw text, every reason, origin, and `_defect`."""
    reasons = ",\n    ".join(
        ["_defect"] + [f"case when {condition} then {literal(reason)} end" for condition, reason in _breaches(contract)]
    )
    raw = raw_sql(contract, {f.name: _text(f) for f in contract.fields})
    return f"""select
  dt,
  {raw} as raw,
  list_filter([
    {reasons}
  ], lambda reason: reason is not null) as reasons,
  _object,
  _row,
  _arrived_at,
  _defect
from {_typed(contract, source)}
where len(reasons) > 0"""


def raw_sql(contract: Contract, texts: Mapping[str, str] | None = None) -> str:
    """Give a bronze row's raw text: as it arrived if it could not be read, else its fields as a JSON object.

    `texts` maps a field to the column that holds its text, where that is not the field's own.
    """
    fields = ", ".join(f"{literal(f.source)}, {(texts or {}).get(f.name, quote(f.name))}" for f in contract.fields)
    # Merging drops nulls (RFC 7396), so a field that was absent stays absent.
    return f"coalesce(_raw, json_merge_patch(coalesce(_extra, '{{}}')::json, json_object({fields}))::varchar)"


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


def _text(field: Field) -> str:
    """Name the column that holds a field's text beside its typed value."""
    return quote(f"{field.name} as text")


def _typed(contract: Contract, source: str) -> str:
    """Select typed values beside their texts, so that each is cast once, however many rules use it."""
    values = ",\n    ".join(
        f"{value_sql(f.type, f'{source}.{quote(f.name)}')} as {quote(f.name)}"
        f",\n    {source}.{quote(f.name)} as {_text(f)}"
        for f in contract.fields
    )
    rest = ", ".join(f"{source}.{name}" for name in ("dt", *BRONZE_COLUMNS))
    return f"(\n  select\n    {values},\n    {rest}\n  from {source}\n) as typed"


def _history_start(contract: Contract) -> str:
    return f"timestamp '{contract.history_start} 00:00:00'"


def _breaches(contract: Contract) -> list[tuple[str, str]]:
    """List the rules as (SQL over typed rows that is true for a breach, reason)."""
    return [rule for field in contract.fields for rule in _field_breaches(contract, field)]


_ARTICLES = {"integer": "an integer of 64 bits", "boolean": "true or false", "list": "a list of texts"}


def _field_breaches(contract: Contract, field: Field) -> list[tuple[str, str]]:
    name, kind = field.name, field.type.kind
    text, value = _text(field), quote(name)
    rules: list[tuple[str, str]] = []
    if field.required:
        # A row that can't be read lacks all fields. Its defect is the only reason.
        rules.append((f"({text} is null or {text} = '') and _defect is null", f"{name} is missing"))
    if kind == "string":
        rules.append((f"strlen({text}) > {MAX_TEXT_BYTES}", f"{name} is longer than {MAX_TEXT_BYTES} bytes"))
    else:
        rules.append((f"{text} <> '' and {value} is null", f"{name} is not {_kind_in_words(field)}"))
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


def _kind_in_words(field: Field) -> str:
    match field.type.kind:
        case "decimal":
            return f"a decimal of at most {field.type.precision} digits, {field.type.scale} after the point"
        case "double":
            return "a finite number"
        case "timestamp":
            return "a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second)"
        case kind:
            return _ARTICLES[kind]
