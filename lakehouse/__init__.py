"""An asset-based lakehouse on Dagster: landing, realtime, bronze, silver, gold and serving on S3 and Iceberg.

This is the public API; `docs/api.md` shows how each name is used. Other modules may change in any release.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lakehouse.errors import (
    BusyError,
    CommitConflictError,
    ContractError,
    LakehouseError,
    ModelError,
    ObjectNotFoundError,
    ParameterError,
    QualityGateError,
    QueryError,
    QueryFileError,
    QueryTimeoutError,
    SchemaChangeError,
    SourceChangedError,
    StorageFullError,
    StorageUnavailableError,
    UnknownStreamError,
    UnreadableObjectError,
    UnreadableSourceError,
    UnreadableTableError,
)

if TYPE_CHECKING:
    from lakehouse.assets.io_manager import LakehouseIOManager
    from lakehouse.assets.resources import LakeResource
    from lakehouse.auditing.audit import audit
    from lakehouse.automation.build import build_definitions
    from lakehouse.contracts.odcs import load_contract
    from lakehouse.contracts.streams import Stream
    from lakehouse.pipeline.lake import Lake
    from lakehouse.serving.query.sql import connect
    from lakehouse.settings import Settings

__all__ = [
    "BusyError",
    "CommitConflictError",
    "ContractError",
    "Lake",
    "LakeResource",
    "LakehouseError",
    "LakehouseIOManager",
    "ModelError",
    "ObjectNotFoundError",
    "ParameterError",
    "QualityGateError",
    "QueryError",
    "QueryFileError",
    "QueryTimeoutError",
    "SchemaChangeError",
    "Settings",
    "SourceChangedError",
    "StorageFullError",
    "StorageUnavailableError",
    "Stream",
    "UnknownStreamError",
    "UnreadableObjectError",
    "UnreadableSourceError",
    "UnreadableTableError",
    "audit",
    "build_definitions",
    "connect",
    "load_contract",
]

_MODULES = {
    "Lake": "lakehouse.pipeline.lake",
    "LakeResource": "lakehouse.assets.resources",
    "LakehouseIOManager": "lakehouse.assets.io_manager",
    "Settings": "lakehouse.settings",
    "Stream": "lakehouse.contracts.streams",
    "audit": "lakehouse.auditing.audit",
    "build_definitions": "lakehouse.automation.build",
    "connect": "lakehouse.serving.query.sql",
    "load_contract": "lakehouse.contracts.odcs",
}
"""Where each name lives that is imported at its first use: Dagster, DuckDB and pyiceberg take seconds to import."""


if not TYPE_CHECKING:  # with it, type checkers would take any name for one of this module

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
