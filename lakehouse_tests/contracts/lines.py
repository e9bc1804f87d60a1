"""Draw lines of the shipped streams. Most are wrong in one or two ways, or only look wrong."""

import json
from collections.abc import Callable

from hypothesis import strategies as st

from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.streams import discover

STREAMS = discover()


def sound(field: Field, contract: Contract) -> str:
    """Return the JSON of a value that the field may have."""
    match field.type.kind:
        case "timestamp":
            return '"2025-11-20T12:00:00.5Z"'
        case "string" if field.enum:
            return json.dumps(field.enum[0])
        case "string":
            return '"EUR"'
        case "list":
            return '["a"]'
        case "boolean":
            return "true"
        case _:
            return "12"


def event(contract: Contract, **others: str | None) -> bytes:
    """Make a valid line. `others` replaces fields by JSON, named by their source; None leaves a field out."""
    tokens: dict[str, str | None] = {field.source: sound(field, contract) for field in contract.fields}
    tokens |= others
    return ("{" + ",".join(f'"{name}":{token}' for name, token in tokens.items() if token is not None) + "}").encode()


TIMES = [
    '"2025-11-20T12:00:00Z"',
    '"2025-11-20 12:00:00"',
    '"2025-11-20T12:00:00.123456Z"',
    '"2025-11-20T12:00:00.1234567Z"',
    '"2025-11-20T12:00:00.123456000Z"',
    '"2025-11-20T12:00:00z"',
    '"2025-11-20T12:00:60Z"',
    '"2025-11-20T24:00:00Z"',
    '"2025-02-29T12:00:00Z"',
    '"2024-02-29T12:00:00Z"',
    '"2025-13-01T12:00:00Z"',
    '"2025-11-31T12:00:00Z"',
    '"0000-01-01T00:00:00Z"',
    '"9999-12-31T23:59:59Z"',
    '"2009-12-31T23:59:59Z"',
    '"2010-01-01T00:00:00Z"',
    '"2025-11-21T14:15:16.123456Z"',
    '"2025-11-21T14:15:16.123457Z"',
    '"2025-11-21 14:15:17"',
    '"2025-11-20"',
    '"2025-11-20T12:00"',
    '"2025-11-20T12:00:00+01:00"',
    '"٢025-11-20T12:00:00Z"',
    '"2025-11-20T12:00:00Z\\n"',
]
NUMBERS = [
    *("0", "-0", "0.0", "-1", "1", "1.5", "0.01", "0.001", "0.010", "12345678901234567", "123456789012345678901"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "1e2", "100e-2"),
    *("1.79E+3", "1.5e0", "0e5", '"1e2"', "1234.5e-1", "1e16"),
    *("1E400", "1e-400", "1e00001", "1e-99999", "17850.0", "17850.5", "1.00000000000000000001", "9" * 400, "0.000"),
    *('"12.50"', '"0012.50"', '"+5"', '" 5"', '"5."', '".5"', '"1_000"', '"NaN"', '"Infinity"', '"٣"', '"0x10"', '""'),
]
TEXTS = [
    '""',
    '"x"',
    '"EURO"',
    '"eur"',
    '"EUR\\n"',
    '"a\\u0000b"',
    '"\\u0022"',
    '"\\""',
    '"\\ud800"',
    '"é"',
    '"\\u00e9"',
    '" "',
]
OTHERS = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    '["a",1]',
    '["\\""]',
    '[["a"]]',
    '{"a":"b"}',
    "NaN",
    "nul",
    "01",
    "'x'",
    "[1,]",
]
TOKENS = st.sampled_from([*TIMES, *NUMBERS, *TEXTS, *OTHERS, None]) | st.text(max_size=8).map(json.dumps)


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """Draw a stream and up to six of its lines."""
    stream = draw(st.sampled_from(sorted(STREAMS)))
    contract = STREAMS[stream].contract
    mangled = []
    for _ in range(draw(st.integers(1, 6))):
        names = st.sampled_from([field.source for field in contract.fields])
        text = event(contract, **draw(st.dictionaries(names, TOKENS, max_size=2)))
        members = st.tuples(names | st.sampled_from(["extra", "f_event_id"]), TOKENS.filter(bool))
        for name, token in draw(st.lists(members, max_size=1)):
            text = text[:-1] + f',"{name}":{token}}}'.encode()
        mangle: Callable[[bytes], bytes] = draw(
            st.sampled_from(
                [
                    *[lambda line: line] * 6,
                    lambda line: line[: len(line) // 2],
                    lambda line: line + line,
                    lambda line: line.replace(b'":', b'" :'),
                    lambda line: line.replace(b'"event', b'"\\u0065vent'),
                    lambda line: b" " + line + b"\r",
                    lambda line: line.replace(b"2", b"\xff", 1),
                    lambda line: line.replace(b",", b", ", 2),
                    lambda line: line.replace(b",", b",\t\x00", 1),
                ]
            )
        )
        mangled.append(mangle(text))
    return stream, mangled
