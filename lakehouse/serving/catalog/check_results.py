"""Read the last results of asset checks from Dagster's history, without Dagster.

The table `asset_check_executions` is part of Dagster's storage in SQLite and PostgreSQL alike.
"""

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

import msgspec
import sqlalchemy
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from lakehouse.contracts.checks import contract_checks
from lakehouse.pipeline.model_checks import list_checks
from lakehouse.serving.catalog.definitions import Definitions
from lakehouse.settings import Settings

log = logging.getLogger(__name__)

MAX_RESULTS = 500
"""The newest results of an asset, among which the last one of each check is looked for."""

_EXECUTIONS = sqlalchemy.table(
    "asset_check_executions",
    *map(
        sqlalchemy.column,
        ("id", "asset_key", "check_name", "execution_status", "evaluation_event_timestamp"),
    ),
)


class Check(msgspec.Struct, frozen=True):
    """A check of a table's rows."""

    name: str
    description: str
    passed: bool | None
    """Whether it held at its last evaluation; null if it was never evaluated."""
    at: datetime | None
    """When it was evaluated last."""


def checks_of(settings: Settings, definitions: Definitions, name: str) -> list[Check]:
    """List the checks of a table with their last results: those of its contract or model, and others that Dagster ran."""
    known, results = _known_checks(definitions, name), last_results(settings, name)
    return [
        Check(check, known.get(check, ""), *results.get(check, (None, None)))
        for check in dict.fromkeys([*known, *results])
    ]


def _known_checks(definitions: Definitions, name: str) -> Mapping[str, str]:
    layer, _, short = name.partition(".")
    if layer == "silver" and short in definitions.streams:
        return contract_checks(definitions.streams[short].contract)
    model = definitions.models.get(name)
    return {check.name: check.description for check in list_checks(model)} if model else {}


def last_results(settings: Settings, name: str) -> dict[str, tuple[bool, datetime | None]]:
    """Return whether each check of an asset passed at its last evaluation, and when that was."""
    path = settings.root / "dagster" / "history" / "event_log.db"
    if settings.dagster_postgres_url is None and not path.exists():
        return {}
    table = _EXECUTIONS.c
    query = (
        sqlalchemy.select(table.check_name, table.execution_status, table.evaluation_event_timestamp)
        .where(table.asset_key == json.dumps(name.split(".")))
        .where(table.execution_status.in_(["SUCCEEDED", "FAILED"]))
        .order_by(table.id.desc())
        .limit(MAX_RESULTS)
    )
    try:
        with _engine(_address(settings)).connect() as connection:
            rows = connection.execute(query).fetchall()
    except (SQLAlchemyError, ImportError) as error:
        log.warning("Results of checks can't be read: %s", error)
        return {}
    return {check: (status == "SUCCEEDED", _as_utc(at)) for check, status, at in reversed(rows)}


def _as_utc(at: datetime | str | None) -> datetime | None:
    if isinstance(at, str):  # as SQLite has it
        at = datetime.fromisoformat(at)
    return None if at is None else at.replace(tzinfo=UTC)


def _address(settings: Settings) -> str:
    if settings.dagster_postgres_url is not None:
        return f"postgresql+psycopg2://{settings.dagster_postgres_url.get_secret_value().split('://', 1)[-1]}"
    return f"sqlite:///file:{settings.root / 'dagster' / 'history' / 'event_log.db'}?mode=ro&uri=true"


@cache
def _engine(address: str) -> Engine:
    return sqlalchemy.create_engine(address)
