"""An asset-based lakehouse on Dagster: landing, realtime, bronze, silver, gold and serving on S3 and Iceberg.

This is the public API; `docs/api.md` shows how each name is used. Other modules may change in any release.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lakehouse.errors import (
    AuthenticationError,
    BusyError,
    CommitConflictError,
    ContractError,
    EngineError,
    LakehouseError,
    LookupFileError,
    ModelError,
    NotFoundError,
    ObjectNotFoundError,
    ParameterError,
    PermissionDeniedError,
    QualityGateError,
    QueryError,
    QueryFileError,
    QueryTimeoutError,
    RequestError,
    SchemaChangeError,
    ServerUnreachableError,
    SourceChangedError,
    SqlTestError,
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
    from lakehouse.client.client import Client
    from lakehouse.client.parcels import Parcel
    from lakehouse.client.results import (
        AlertPage,
        Health,
        LookupInfo,
        QueryInfo,
        QueryParameter,
        Receipt,
        Rejection,
        SendResult,
        Statistics,
        TableInfo,
        Withdrawal,
    )
    from lakehouse.client.rows import Rows
    from lakehouse.contracts.odcs import load_contract
    from lakehouse.contracts.streams import Stream
    from lakehouse.pipeline.lake import Lake
    from lakehouse.pipeline.sql_tests import SqlTest, find_tests
    from lakehouse.serving.features.training_set import features
    from lakehouse.serving.query.sql import connect
    from lakehouse.settings import Settings

__all__ = [
    "AlertPage",
    "AuthenticationError",
    "BusyError",
    "Client",
    "CommitConflictError",
    "ContractError",
    "EngineError",
    "Health",
    "Lake",
    "LakeResource",
    "LakehouseError",
    "LakehouseIOManager",
    "LookupFileError",
    "LookupInfo",
    "ModelError",
    "NotFoundError",
    "ObjectNotFoundError",
    "ParameterError",
    "Parcel",
    "PermissionDeniedError",
    "QualityGateError",
    "QueryError",
    "QueryFileError",
    "QueryInfo",
    "QueryParameter",
    "QueryTimeoutError",
    "Receipt",
    "Rejection",
    "RequestError",
    "Rows",
    "SchemaChangeError",
    "SendResult",
    "ServerUnreachableError",
    "Settings",
    "SourceChangedError",
    "SqlTest",
    "SqlTestError",
    "Statistics",
    "StorageFullError",
    "StorageUnavailableError",
    "Stream",
    "TableInfo",
    "UnknownStreamError",
    "UnreadableObjectError",
    "UnreadableSourceError",
    "UnreadableTableError",
    "Withdrawal",
    "audit",
    "build_definitions",
    "connect",
    "features",
    "find_tests",
    "load_contract",
]

_MODULES = {
    "audit": "lakehouse.auditing.audit",
    "build_definitions": "lakehouse.automation.build",
    "connect": "lakehouse.serving.query.sql",
    "features": "lakehouse.serving.features.training_set",
    "find_tests": "lakehouse.pipeline.sql_tests",
    "load_contract": "lakehouse.contracts.odcs",
    "AlertPage": "lakehouse.client.results",
    "Client": "lakehouse.client.client",
    "Health": "lakehouse.client.results",
    "Lake": "lakehouse.pipeline.lake",
    "LookupInfo": "lakehouse.client.results",
    "LakehouseIOManager": "lakehouse.assets.io_manager",
    "LakeResource": "lakehouse.assets.resources",
    "Parcel": "lakehouse.client.parcels",
    "QueryInfo": "lakehouse.client.results",
    "QueryParameter": "lakehouse.client.results",
    "Receipt": "lakehouse.client.results",
    "Rejection": "lakehouse.client.results",
    "Rows": "lakehouse.client.rows",
    "SendResult": "lakehouse.client.results",
    "Settings": "lakehouse.settings",
    "Statistics": "lakehouse.client.results",
    "SqlTest": "lakehouse.pipeline.sql_tests",
    "Stream": "lakehouse.contracts.streams",
    "TableInfo": "lakehouse.client.results",
    "Withdrawal": "lakehouse.client.results",
}
"""Where each name lives that is imported at its first use: Dagster, DuckDB and pyiceberg take seconds to import."""


if not TYPE_CHECKING:  # with it, type checkers would take any name for one of this module

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
