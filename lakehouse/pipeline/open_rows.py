"""Generate the SQL that tells open rows of quarantine from those that corrected rows replace. See `quarantine` for both."""

from lakehouse.contracts.sql import literal
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.pipeline.readable_lake import ReadableLake

CORRECTION_PREFIX = "replayed-"
"""The start of the file names of landing objects with corrected rows."""

REPLACES_FIELD = "_replaces"
"""The field by which a corrected row names the row it replaces, as `{"object": …, "row": …}`."""


def open_rows_sql(lake: ReadableLake, stream: Stream, where: str = "true") -> str:
    """Generate the SELECT of open rows: those in quarantine that no corrected row replaces."""
    return f"""select quarantine.*
        from (from {scan_sql(lake.tables.load(f"quarantine.{stream.name}"))} where {where}) as quarantine
        anti join ({replaced_sql(stream, scan_sql(lake.tables.load(f"bronze.{stream.name}")))}) as replaced
          on quarantine._object = replaced.object and quarantine._row = replaced.row"""


def replaced_counts_sql(lake: ReadableLake, stream: Stream) -> str:
    """Generate the SELECT of the number of rows in quarantine that a corrected row replaces, by day."""
    return f"""select quarantine.dt as day, count(*) as rows
        from {scan_sql(lake.tables.load(f"quarantine.{stream.name}"))} as quarantine
        semi join ({replaced_sql(stream, scan_sql(lake.tables.load(f"bronze.{stream.name}")))}) as replaced
          on quarantine._object = replaced.object and quarantine._row = replaced.row
        group by quarantine.dt"""


def replaced_sql(stream: Stream, bronze: str) -> str:
    """Generate the SELECT of the places, object and row, that corrected rows in bronze replace."""
    first = corrections_prefix(stream)
    # Use a range instead of a prefix: files whose bounds lie outside of it are skipped.
    beyond = first[:-1] + chr(ord(first[-1]) + 1)
    return f"""select
          json_extract_string(_extra, '$.{REPLACES_FIELD}.object') as object,
          try_cast(json_extract_string(_extra, '$.{REPLACES_FIELD}.row') as bigint) as row
        from {bronze}
        where _object >= {literal(first)} and _object < {literal(beyond)} and _extra is not null"""


def corrections_prefix(stream: Stream) -> str:
    """Return the start of the keys of landing objects with corrected rows."""
    return f"incoming/{stream.name}/{CORRECTION_PREFIX}"
