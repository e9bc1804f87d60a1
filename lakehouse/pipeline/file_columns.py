"""Compare the columns of loaded files with the contract, from bronze: what a file held, and what its stream expects."""

from collections.abc import Mapping, Sequence
from datetime import date

from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.engine.filters import days_filter, objects_filter
from lakehouse.landing.readers.columns import FileColumns, compare_names
from lakehouse.pipeline.lake import Lake

MAX_DESCRIBED_FILES = 20

_IS_FILE = "_object >= 'incoming/' and _object < 'incoming0'"


def file_columns(lake: Lake, stream: Stream, days: Sequence[date], column: str = "dt") -> dict[str, FileColumns]:
    """Find the files with columns that the contract does not know, by key, among the rows of these days.

    Days are those of the events, or with the column `arrival_dt` of arrival. Only unknown columns are read, unless there are some.
    """
    fields = stream.contract.fields
    scan = f"{scan_sql(lake.tables.load(f'bronze.{stream.name}'))} where {days_filter(days, column)}"
    with lake.engine.cursor() as cursor:
        names = f"select _object, unnest(json_keys(_extra)) as name from {scan} and {_IS_FILE} and _extra is not null"
        unknown: Mapping[str, list[str]] = dict(
            cursor.execute(f"select _object::varchar, list(distinct name) from ({names}) group by _object").fetchall()
        )
        if not unknown:
            return {}
        counts = ", ".join(f"count({quote(field.name)})" for field in fields)
        filled = cursor.execute(
            f"select _object::varchar, {counts} from {scan} and {objects_filter(unknown)} group by _object"
        ).fetchall()
    columns = {
        key: compare_names(
            stream.contract,
            unknown[key],
            [field.name for field, count in zip(fields, values, strict=True) if count],
        )
        for key, *values in filled
    }
    return {key: found for key, found in columns.items() if found.unknown}


def describe_columns(files: Mapping[str, FileColumns]) -> str:
    """Describe what differs in the first of these files."""
    lines = [f"{key}: {'; '.join(columns.warnings)}" for key, columns in sorted(files.items())]
    more = [f"and {len(lines) - MAX_DESCRIBED_FILES} more files"] if len(lines) > MAX_DESCRIBED_FILES else []
    return "\n".join([*lines[:MAX_DESCRIBED_FILES], *more]) or "none"
