"""Generate the SQL that casts a text to a typed value, exactly or not at all. See `sql` for a contract's rules."""

from datetime import date

from lakehouse.contracts.model import Contract, Field, FieldType
from lakehouse.contracts.time_formats import TimeFormat

_MANTISSA = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_EXPONENT = r"[eE][+-]?0*[0-9]{1,4}"
_SCIENTIFIC = rf"{_MANTISSA}{_EXPONENT}"
DOUBLE = rf"{_MANTISSA}({_EXPONENT})?"
_BOOLEAN = r"(?i)true|false"

THOUSANDS = r"[+-]?[1-9][0-9]{0,2}\.000"
"""Texts that mean a thousand times as much where the point marks thousands. No integer is read from them."""

_INTEGER = r"[+-]?([0-9]+(\.0{0,2}|\.0{4,})?|([0-9]{4,}|0[0-9]{0,2})\.000)"
"""Digits, and perhaps a point and zeros, but not `THOUSANDS`."""

_YEAR = r"([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DATE = rf"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_HOUR = r"([01][0-9]|2[0-3])"
_TIME = rf"{_HOUR}:[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,6}}0*)?"
_OFFSET = r"[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?"
_TIME_UTC = rf"{_DATE}([T ]{_HOUR}:[0-5][0-9](:[0-5][0-9](\.[0-9]{{1,6}}0*)?Z?)?)?"
_TIME_WITH_OFFSET = rf"{_DATE}[T ]{_TIME}{_OFFSET}"
"""The texts that are cast to values. Each is matched whole first, because casts of engines accept different texts. Times are
ISO 8601, up to microseconds, because tables store no more; further digits of a second may only be zeros. DuckDB casts no
time with an offset and without seconds, so that one is among the further spellings."""

_OTHER_TIME = (
    rf"({_DATE}[Tt ]{_HOUR}:[0-5][0-9](:[0-5][0-9]([.,][0-9]{{1,6}}0*)?)?"
    rf"|{_YEAR}[0-9]{{4}}[Tt ]{_HOUR}[0-5][0-9]([0-5][0-9]([.,][0-9]{{1,6}}0*)?)?)"
)
_OTHER_TIME_UTC = f"{_OTHER_TIME}( ?(Z|z|UTC|GMT))?"
_OTHER_TIME_WITH_OFFSET = f"{_OTHER_TIME} ?{_OFFSET}"
"""Further spellings of one time: without seconds, ISO 8601's basic form and decimal comma, RFC 3339's lower case, a zone after a
blank, UTC."""

_PARTS_OF_TIME = (
    "^([0-9]{4})-?([0-9]{2})-?([0-9]{2})[Tt ]([0-9]{2}):?([0-9]{2}):?([0-9]{2})?[.,]?([0-9]{1,6})?0* ?(.*)$"
)

_HAS_ZONE = "[Tt ].*([Zz]|UTC|GMT|[+-][0-9:]+)$"

AMBIGUOUS_TIME = r"[+-]?[0-9]+(\.[0-9]*)?|[0-9]{1,4}[-./ ][0-9]{1,2}[-./ ][0-9]{1,4}.*"
"""Texts that may be a time, but whose unit, or whose order of day and month, is not declared."""

_EPOCH = (
    r"[1-9]([0-9]{9}(\.[0-9]{0,6}0*)?|[0-9]{12}(\.[0-9]{0,3}0*)?|[0-9]{15}(000)?(\.0*)?"
    r"|(\.[0-9]{0,15}0*)?[eE]\+?(9|12|15|18))"
)
"""Numbers of the epoch in s, ms, µs or ns. The first 16 digits of each, with zeros added, are its microseconds."""

EPOCH_DIGITS_SINCE = date(2001, 9, 9)
"""From this day to 2286, seconds of the epoch have 10 digits, milliseconds 13, microseconds 16 and nanoseconds 19."""

_MAX_DECIMALS = 10_000
"""More decimals than the exponents that are read give."""

# Parameters of lambdas begin with _ because DuckDB takes a column of the same name in their place. No field's name begins so.
_MAX_ZEROS = 40
"""Zeros that an exponent adds at most to a number's text. With so many, no integer or decimal holds it."""


def field_value_sql(contract: Contract, field: Field, text: str) -> str:
    """Cast the SQL of a field's text to its typed value, which is null if the text is not such a value.

    An event time may also be a number of the epoch if its digits tell the unit: if in any other unit it would lie outside
    the stream's history.
    """
    if field.is_rounded:
        return _rounded_sql(field.type, text)
    if field.is_truncated:
        text = _truncated_sql(text)
    value = value_sql(field.type, text)
    if field.default_timezone:
        local = _in_zone_sql(value, field.default_timezone)
        value = f"case when regexp_matches({text}, '{_HAS_ZONE}') then {value} else {local} end"
    if field.format:
        return f"coalesce({value}, {', '.join(_formatted_time_sql(field, form, text) for form in field.format)})"
    if field.name == contract.event_time and contract.history_start > EPOCH_DIGITS_SINCE:
        return f"coalesce({value}, {_epoch_sql(text)})"
    return value


def value_sql(field_type: FieldType, text: str) -> str:
    """Cast the SQL of a text to a typed value, which is null if the text is not such a value."""
    match field_type.kind:
        case "string":
            return text
        case "integer":
            return _exact_number_sql(_INTEGER, 0, "bigint", text)
        case "double":
            finite = f"case when abs(try_cast({text} as double)) <= 1.7976931348623157e308 then try_cast({text} as double) end"
            return f"case when {_matches(text, DOUBLE)} then {finite} end"
        case "decimal":
            scale = field_type.scale
            return _exact_number_sql(_decimal_pattern(scale), scale, field_type.sql, text)
        case "boolean":
            return f"case when {_matches(text, _BOOLEAN)} then try_cast({text} as boolean) end"
        case "timestamp":
            return (
                f"case when {_matches(text, _TIME_UTC)} then try_cast({text} as timestamp)"
                f" when {_matches(text, _TIME_WITH_OFFSET)} then {_instant_sql(text)}"
                f" when {_matches(text, _OTHER_TIME_UTC)} then try_cast({_plain_time_sql(text)} as timestamp)"
                f" when {_matches(text, _OTHER_TIME_WITH_OFFSET)} then {_instant_sql(_plain_time_sql(text, offset=True))} end"
            )
        case "list":
            texts = f"len(list_filter(json_type({text}, '$[*]'), lambda _kind: _kind <> 'VARCHAR')) = 0"
            return (
                f"case when json_valid({text}) and json_type({text}) = 'ARRAY' and {texts}"
                f" then from_json({text}, '[\"VARCHAR\"]') end"
            )


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, '{pattern}')"


def _decimal_pattern(scale: int) -> str:
    """Build the pattern of exact decimals of `scale`: further decimals may only be zeros."""
    return rf"[+-]?([0-9]+(\.[0-9]{{0,{scale}}}0*)?|\.[0-9]{{1,{max(scale, 1)}}}0*)"


def _exact_number_sql(pattern: str, scale: int, sql_type: str, text: str) -> str:
    """Cast a number that the type holds exactly, however it is written. Null if it isn't such a number."""
    return (
        f"case when {_matches(text, pattern)} then try_cast({text} as {sql_type})"
        f" when {_matches(text, _SCIENTIFIC)} then try_cast({_plain_number_sql(text, scale)} as {sql_type}) end"
    )


def _rounded_sql(field_type: FieldType, text: str) -> str:
    """Cast a number to a decimal, halves away from zero."""
    plain = _plain_number_sql(text, _MAX_DECIMALS)
    return (
        f"case when {_matches(text, _MANTISSA)} then try_cast({text} as {field_type.sql})"
        f" when {_matches(text, _SCIENTIFIC)} then try_cast({plain} as {field_type.sql}) end"
    )


def _truncated_sql(text: str) -> str:
    """Cut off the digits of a time beyond microseconds, also of nanoseconds of the epoch."""
    fraction = f"regexp_replace({text}, '([.,][0-9]{{6}})[0-9]+', '\\1')"
    return f"regexp_replace({fraction}, '^([1-9][0-9]{{15}})[0-9]{{3}}(\\.[0-9]*)?$', '\\1000')"


def _plain_number_sql(text: str, scale: int) -> str:
    """Write the SQL of a number with an exponent as one without: `1.79E+3` is `01790.`; null if it has more decimals.

    The point is moved from digit to digit, because a cast would round. The text must match `_SCIENTIFIC`.
    """
    parts = (
        f"regexp_extract({text}, '^([+-]?)([0-9]*)\\.?([0-9]*)[eE](.+)$', ['sign', 'whole', 'fraction', 'exponent'])"
    )
    digits = "_p.whole || _p.fraction"
    point = "(length(_p.whole) + cast(_p.exponent as integer))"
    zeros = f"repeat('0', least(greatest({point} - length({digits}), 0), {_MAX_ZEROS}))"
    number = f"{{'sign': _p.sign, 'digits': repeat('0', -least({point}, 0)) || {digits} || {zeros}, 'point': greatest({point}, 0)}}"
    decimals = "rtrim(substr(_n.digits, _n.point + 1), '0')"
    plain = f"_n.sign || '0' || left(_n.digits, _n.point) || '.' || {decimals}"
    of_number = f"case when length({decimals}) <= {scale} then {plain} end"
    return f"list_transform(list_transform([{parts}], lambda _p: {number}), lambda _n: {of_number})[1]"


def _instant_sql(text: str) -> str:
    return f"try_cast({text} as timestamptz) at time zone 'UTC'"


def _plain_time_sql(text: str, *, offset: bool = False) -> str:
    """Write the SQL of a text that matches `_OTHER_TIME` in the one form that DuckDB casts."""
    parts = r"\1-\2-\3 \4:\5:\6.\7" + (r"\8" if offset else "")
    return f"replace(regexp_replace({text}, '{_PARTS_OF_TIME}', '{parts}'), ':.', ':00.')"


def _in_zone_sql(time: str, zone: str) -> str:
    """Write the SQL of a local time as UTC. Null where clocks skip it, or show it twice.

    The time is tried with the zone's offsets of a day before and after, because clocks are set by 30 minutes in some zones,
    by two hours in others, and one has left out a day.
    """
    shown = f"timezone('{zone}', timezone('UTC', {{}}))"
    near = "[_local - interval 1 day, _local + interval 1 day]"
    tried = f"list_transform({near}, lambda _near: _local - ({shown.format('_near')} - _near))"
    instants = f"list_distinct(list_filter({tried}, lambda _utc: {shown.format('_utc')} = _local))"
    return (
        f"list_transform([{time}], lambda _local:"
        f" list_transform([{instants}], lambda _instants: case when len(_instants) = 1 then _instants[1] end)[1])[1]"
    )


def _formatted_time_sql(field: Field, form: TimeFormat, text: str) -> str:
    """Write the SQL of a text in one format as a timestamp, null if it isn't in that format."""
    pattern, codes = (part.replace("'", "''") for part in (form.pattern, form.codes))
    time = f"try_strptime({text}, '{codes}')"
    if form.microseconds:
        exact = f"_n * {form.microseconds}"
        is_whole = "true" if field.is_truncated else f"floor({exact}) = {exact}"
        instant = f"case when {is_whole} then make_timestamp(try_cast(floor({exact}) as bigint)) end"
        time = f"list_transform([try_cast({text} as decimal(38, 12))], lambda _n: {instant})[1]"
    elif "%z" in form.codes:
        time = f"timezone('UTC', {time})"
    elif field.default_timezone:
        time = _in_zone_sql(time, field.default_timezone)
    return f"case when {_matches(text, pattern)} then {time} end"


def _epoch_sql(text: str) -> str:
    """Write the SQL of a number of the epoch as a timestamp, by its number of digits."""
    digits = rf"rpad(regexp_replace({text}, '\.|[eE].*$', '', 'g'), 16, '0')[1:16]"
    return f"case when {_matches(text, _EPOCH)} then make_timestamp(cast({digits} as bigint)) end"
