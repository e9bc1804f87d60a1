"""The command-line options that describe how a file is written."""

import inspect
import shlex
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from lakehouse.contracts.dialect import camel_case, read_dialect
from lakehouse.contracts.model import Contract
from lakehouse.errors import LakehouseError

_OPTIONS: dict[str, tuple[str, type, str]] = {
    "encoding": ("--encoding", str, "Encoding of CSV without a byte order mark, such as cp1252."),
    "delimiter": ("--delimiter", str, "Delimiter of CSV, such as ; or \\t."),
    "quote": ("--quote", str, "Character around quoted fields; empty for none."),
    "escape": ("--escape", str, "Character that makes the next one text, such as \\."),
    "decimal": ("--decimal", str, "Decimal mark, such as a comma."),
    "thousands": ("--thousands", str, "Mark of thousands."),
    "header": ("--header/--no-header", bool, "Whether the first line names the columns."),
    "columns": ("--column", list[str], "Name of the next column if there is no header; repeat it."),
    "skip": ("--skip", int, "Lines before the header."),
    "comment": ("--comment", str, "Start of lines to skip."),
    "nulls": ("--null", list[str], "Text that is no value; may be repeated."),
    "true": ("--true", list[str], "Spelling of true; may be repeated."),
    "false": ("--false", list[str], "Spelling of false; may be repeated."),
    "trailing_delimiter": ("--trailing-delimiter/--no-trailing-delimiter", bool, "Whether rows end in a delimiter."),
    "time_format": ("--time-format", list[str], "Format of times, such as dd/MM/yyyy HH:mm, or epoch ms; repeat it."),
    "time_zone": ("--time-zone", str, "Zone of times that have none, such as Europe/Berlin."),
    "time_columns": ("--time-column", list[str], "Column that is the next part of the event time; repeat it."),
    "truncate_times": ("--truncate-times/--no-truncate-times", bool, "Cut digits of times beyond microseconds off."),
    "round_decimals": ("--round-decimals/--no-round-decimals", bool, "Round decimals to the contract's digits."),
    "envelope": (
        "--envelope",
        list[str],
        "Path to the events in a JSON object, such as $.Records[*]; may be repeated.",
    ),
    "field_paths": ("--field-path", list[str], "A field and its path in JSON, such as id=user.id; may be repeated."),
}
"""The flag, type and help of each option of `contracts.dialect.Dialect`."""


def with_dialect_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add these options to a command. Its parameter `dialect` gets those that are given, by the names that contracts use."""

    @wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in _OPTIONS}
        dialect = {camel_case(name): value for name, value in given.items() if value is not None and value != []}
        if "delimiter" in dialect:
            dialect["delimiter"] = dialect["delimiter"].replace("\\t", "\t")
        command(**arguments, dialect=dialect)

    signature = inspect.signature(command)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "dialect"]
    for name, (flag, kind, text) in _OPTIONS.items():
        annotation: Any = Annotated[kind | None, typer.Option(flag, help=text, show_default=False)]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    parameters.sort(key=lambda parameter: parameter.kind)
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def apply_dialect(contract: Contract, options: Mapping[str, Any]) -> Contract:
    """Return the contract by which a file with these options is read. Raises LakehouseError if an option is wrong."""
    try:
        dialect = read_dialect(options, contract.dialect)
    except ValueError as error:
        raise LakehouseError(f"{error}.") from None
    known = {field.name for field in contract.fields}
    if unknown := [path for path in dialect.field_paths if path.partition("=")[0] not in known]:
        raise LakehouseError(
            f"fieldPaths: {', '.join(unknown)} names no field; allowed are {', '.join(sorted(known))}."
        )
    return contract.written_in(dialect)


def flags_of(options: Mapping[str, Any]) -> str:
    """Write options as the flags of a command, quoted for a shell."""
    words: list[str] = []
    for name, (flag, kind, _) in _OPTIONS.items():
        value = options.get(camel_case(name))
        if value is None:
            continue
        if kind is bool:
            words.append(flag.split("/")[0 if value else 1])
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"{flag} {shlex.quote(str(item).replace(chr(9), chr(92) + 't'))}" for item in values]
    return " ".join(words)
