"""An asset-based lakehouse on Dagster: landing, realtime, bronze, silver, gold and serving on S3 and Iceberg."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakehouse.serving.query.sql import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    # DuckDB and pyiceberg take a second to import, and most of the package can do without them.
    if name == "connect":
        from lakehouse.serving.query.sql import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
