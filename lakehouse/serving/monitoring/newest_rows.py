"""Select a stream's newest rows from realtime and the hot tail, from which alerts are computed before tables hold them."""

from datetime import datetime

from lakehouse.contracts.sql import latest_sql, quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of, scan_sql
from lakehouse.landing.keys import arrival_hour
from lakehouse.pipeline.unified_view import tail_sql
from lakehouse.serving.query.lake_snapshot import LakeSnapshot


def newest_rows_sql(snapshot: LakeSnapshot, stream: Stream, since: datetime) -> str:
    """Return a SELECT of the rows that arrived since then, each key once, with the columns of the unified view.

    Silver is left out, because it would be read whole only for the few events that are sent again.
    """
    realtime, silver = (snapshot.tables.load(f"{layer}.{stream.name}") for layer in ("realtime", "silver"))
    columns = ", ".join(quote(name) for name, _ in columns_of(silver))
    realtime_columns = ", ".join(quote(name) for name, _ in columns_of(realtime))
    sources = [f"select {realtime_columns} from {scan_sql(realtime)} where arrival_hour >= '{arrival_hour(since)}'"]
    if tail := snapshot.tail.get(stream.name):
        sources.append(f"select {realtime_columns} from {tail_sql(realtime, tail)}")
    arrived = f"_arrived_at >= timestamp '{since:%Y-%m-%d %H:%M:%S}'"
    newest = latest_sql(stream.contract.key, f"({' union all '.join(sources)})", arrived)
    return f"select {columns} from ({newest})"
