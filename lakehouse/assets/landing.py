"""Landing assets: raw objects as they arrived. They are made outside Dagster, so the graph only names them."""

import dagster as dg

from lakehouse.assets.specs import attributes, key
from lakehouse.contracts.streams import Stream


def landing_asset(stream: Stream, hours: dg.HourlyPartitionsDefinition) -> dg.AssetSpec:
    """Define the external asset of a stream's landing objects, by hour of arrival."""
    return dg.AssetSpec(
        key("landing", stream.name),
        partitions_def=hours,
        **attributes(
            stream,
            "landing",
            f"Raw {stream.name} events as they arrived. {stream.contract.description}",
            ["s3", "json"],
        ),
    )
