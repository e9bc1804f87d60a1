"""Specify the tables of models: their columns follow from what they read, without any rows."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from lakehouse.contracts.column_comments import column_comments
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.sql import quote
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import describe
from lakehouse.errors import ContractError, ModelError
from lakehouse.models.chart import ChartError
from lakehouse.models.model import Model, Models, read_models
from lakehouse.models.problems import model_error
from lakehouse.models.returned import show_returned
from lakehouse.pipeline.table_specs import empty_sql, stored_columns, table_specs
from lakehouse.pipeline.view_names import HEALTH_VIEW, LIVE_METRICS, stream_view_names
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.tables import NAMESPACES

DAY_COLUMNS = ("dt", "date_key")
"""Names of the column by whose days a table is partitioned."""

_LINE = re.compile(r"\s*\bLINE (\d+):.*", re.DOTALL)


@dataclass(frozen=True)
class CheckedModels:
    """Models that are right, the specifications of their tables, and what is wrong with the others."""

    models: Models = field(default_factory=Models)
    specs: Mapping[str, TableSpec] = field(default_factory=dict)


def find_models(folders: Sequence[Path], streams: Iterable[Stream]) -> CheckedModels:
    """Read the models of these folders, and check them against the tables of these streams."""
    return check_models(read_models(folders), table_specs(streams)) if folders else CheckedModels()


def check_models(models: Models, tables: Iterable[TableSpec]) -> CheckedModels:
    """Specify the table of each model over these tables and other models. One that is wrong is left out as a problem."""
    known = {spec.name: spec for spec in tables}
    streams = [name.removeprefix("silver.") for name in known if name.startswith("silver.")]
    taken = {*known, HEALTH_VIEW, LIVE_METRICS}.union(*map(stream_view_names, streams))
    right, specs, problems = dict[str, Model](), dict[str, TableSpec](), [*models.problems]
    with open_in_memory() as database:
        for layer in NAMESPACES:
            database.execute(f"create schema {quote(layer)}")
        for spec in known.values():
            _create(database, spec)
        for model in models.by_name.values():
            try:
                if model.name in taken:
                    raise model_error(model.path, f"{model.name} is a table or view of a stream; choose another name")
                spec = _spec(database, model, known, models)
            except ModelError as error:
                problems.append(str(error))
                continue
            _create(database, spec)
            right[model.name], specs[model.name], known[model.name] = model, spec, spec
    return CheckedModels(Models(right, tuple(problems)), specs)


def day_column(partition_by: Iterable[str]) -> str | None:
    """Return the column by whose days a table is partitioned; None if it is not."""
    return next((column for column in DAY_COLUMNS if column in partition_by), None)


def _create(database: duckdb.DuckDBPyConnection, spec: TableSpec) -> None:
    layer, name = spec.name.split(".")
    database.execute(f"create view {quote(layer)}.{quote(name)} as {empty_sql(spec.columns)}")


def _spec(
    database: duckdb.DuckDBPyConnection, model: Model, known: Mapping[str, TableSpec], models: Models
) -> TableSpec:
    for table in model.tables:
        _check_readable(model, table.name, table.line, known, models)
    if not model.tables:
        raise model_error(model.path, "must read a table, such as silver.orders")
    partition = "dt" if model.is_partitioned else None
    if partition and not any(day_column(known[name].partition_by) for name in model.reads):
        raise model_error(model.path, "reads no table with days; say partition: none in its header")
    try:
        columns = stored_columns(_columns(database, model), day=partition)
    except ContractError as error:
        hint = "; or say partition: none in its header" if "must give a column dt" in str(error) else ""
        raise model_error(model.path, f"{error}{hint}") from error
    except duckdb.Error as error:
        line = _LINE.search(str(error))
        raise model_error(model.path, _LINE.sub("", str(error)), int(line[1]) if line else None) from error
    _check_header(model, {name for name, _ in columns}, known)
    try:
        if model.chart is not None:
            model.chart.check_columns([name for name, _ in columns])
    except ChartError as error:
        raise model_error(model.path, str(error), error.line) from error
    comments = {} if model.function else column_comments(model.sql)
    return TableSpec(model.name, columns, (partition,) if partition else (), comments)


def _columns(database: duckdb.DuckDBPyConnection, model: Model) -> Sequence[tuple[str, str]]:
    """Find the columns of a model as (name, DuckDB type). Raises duckdb.Error with a line of the file, and ModelError."""
    if model.header.columns:
        types = ", ".join(f"null::{kind} as {quote(name)}" for name, kind in model.header.columns.items())
        return describe(database, f"select {types}")
    show_returned(database, model)
    given = describe(database, model.sql) if model.function is None else ()
    return describe(database, model.select) if model.select != model.sql else given


def _check_readable(model: Model, name: str, line: int, known: Mapping[str, TableSpec], models: Models) -> None:
    if name in known:
        if name.startswith("realtime."):
            stream = name.partition(".")[2]
            raise model_error(model.path, f"{name} is kept for some days only, read silver.{stream}", line)
        return
    if name in models.by_name:
        raise model_error(model.path, f"reads {name}, which is wrong", line)
    if "." not in name:
        raise model_error(model.path, f"{name} has no layer, such as in silver.{name}", line)
    near = difflib.get_close_matches(name, [*known, *models.by_name], n=1, cutoff=0)
    view = " A model reads tables, not views." if name.startswith("serving.unified_") else ""
    raise model_error(model.path, f"there is no table {name}; the nearest is {near[0] if near else 'none'}{view}", line)


def _check_header(model: Model, columns: set[str], known: Mapping[str, TableSpec]) -> None:
    """Check that the header names columns and tables that there are."""
    header, checks = model.header, model.header.checks
    named = {*header.key, *checks.not_null, *checks.unique, *checks.accepted, *checks.relationship}
    if unknown := sorted(named - columns):
        raise model_error(
            model.path, f"the header names {', '.join(unknown)}, but the columns are {', '.join(sorted(columns))}"
        )
    if unread := sorted({*header.ignore_changes} - {*model.reads}):
        raise model_error(model.path, f"ignore_changes names {', '.join(unread)}, which it does not read")
    for target in checks.relationship.values():
        table, _, column = target.rpartition(".")
        if table not in known or column not in dict(known[table].columns):
            raise model_error(model.path, f"checks.relationship: there is no column {target}")
