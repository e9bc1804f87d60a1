"""Add features to a table of entities with times, in this process: for training sets of any size."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.point_in_time.known_features import known_features_sql
from lakehouse.pipeline.readable_lake import ReadableLake
from lakehouse.serving.features.requests import (
    Entities,
    StreamFeatures,
    add_features,
    describe_requests,
    find_features,
    read_entities,
    stream_requests,
)
from lakehouse.serving.query.linked_tail import LakeWithTail, link_tail
from lakehouse.serving.query.sql import as_lakehouse_error
from lakehouse.settings import get_settings

REQUESTS = "requested"


def features(entities_with_times: Entities, names: Sequence[str], *, lake: Lake | None = None) -> pa.Table:
    """Add features to entities with times, as they were known then: from rows that had arrived and happened by the time.

    The result has the given columns and rows, in their order, and a column for each feature. An entity without rows in the
    30 days before its time has nulls.

    Args:
        entities_with_times: An Arrow table, a data frame, rows or columns, with a column `time` of times with a zone, and
            for each stream the column of its entity, such as `device_id`. The text `now` is the time of the call.
        names: Features as `stream.feature`, such as `iot.readings_7d`.
        lake: The lake to read. Without it, that of the settings.

    Raises UnknownStreamError for an unknown stream, and ParameterError for anything else that is wrong.

    Example:
        rows = [{"device_id": "d1", "time": "2025-11-20T14:00:00Z"}]
        table = features(rows, ["iot.readings_7d"])

    """
    lake = lake or Lake(get_settings(), metadata_only=True)
    tail = link_tail(lake.settings)  # before tables are loaded
    try:
        return known_features(lake, LakeWithTail(lake, tail.files), read_entities(entities_with_times), names)
    finally:
        tail.remove()


def known_features(lake: Lake, fresh: ReadableLake, entities: pa.Table, names: Sequence[str]) -> pa.Table:
    """Add features to entities as `read_entities` returns them. `fresh` is the lake with its hot tail."""
    computed = {
        wanted: compute(lake, fresh, wanted, stream_requests(fresh, wanted, entities))
        for wanted in find_features(fresh, names)
    }
    return add_features(entities, names, computed)


def compute(lake: Lake, fresh: ReadableLake, wanted: StreamFeatures, requests: pa.Table) -> pa.Table:
    """Compute the features of these requests of one stream."""
    sql = known_features_sql(fresh, wanted.stream, wanted.names, describe_requests(wanted, requests, REQUESTS))
    with lake.engine.cursor() as cursor:
        cursor.register(REQUESTS, requests)
        try:
            return cursor.execute(sql).to_arrow_table()
        except duckdb.Error as error:
            layers = ("silver", "bronze", "realtime", "quarantine")
            tables = [fresh.tables.load(f"{layer}.{wanted.stream.name}") for layer in layers]
            raise as_lakehouse_error(lake, tables, error) from error
