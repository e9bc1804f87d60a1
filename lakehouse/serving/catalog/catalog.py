"""The catalog of a lake: all entries, and everything about one of them. What was derived is kept until its sources change."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec

from lakehouse.contracts.sql import quote
from lakehouse.models.chart import Chart
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.catalog.check_results import Check, checks_of
from lakehouse.serving.catalog.contents import Contents
from lakehouse.serving.catalog.contract_versions import ContractInfo, contract_info
from lakehouse.serving.catalog.definitions import DefinitionReader, Definitions
from lakehouse.serving.catalog.entries import LOOKUPS, QUERIES, Entries, Entry, list_entries
from lakehouse.serving.catalog.lineage import Lineage, downstream_of, lineage_of
from lakehouse.serving.catalog.personal import personal_columns
from lakehouse.serving.catalog.table_state import EMPTY, UNREADABLE, TableState, table_state
from lakehouse.serving.query.lake_snapshot import LakeSnapshot

P = ParamSpec("P")
T = TypeVar("T")

SAMPLE_ROWS = 20
CHART_ROWS = 5_000


class ColumnPage(msgspec.Struct, frozen=True):
    """A column with its direct lineage."""

    name: str
    type: str
    description: str
    classification: str
    sources: list[str]
    """The columns that it is computed from, as `layer.name.column`."""
    readers: list[str]
    """The columns that are computed from it."""


class ParameterInfo(msgspec.Struct, frozen=True):
    """A parameter of a named query."""

    name: str
    type: str
    description: str
    required: bool
    default: str | None


class ChartInfo(msgspec.Struct, frozen=True):
    """How rows are drawn."""

    kind: str
    x: str | None
    y: list[str]
    by: str | None


class CatalogPage(msgspec.Struct, frozen=True):
    """Everything about an entry."""

    entry: Entry
    columns: list[ColumnPage]
    lineage: Lineage
    state: TableState
    unreadable: str | None
    """Why the state of the table can't be read; null where it can."""
    checks: list[Check]
    contract: ContractInfo | None
    request: str | None
    """The path at which a named query or a look-up answers."""
    parameters: list[ParameterInfo]
    """The parameters of a named query."""
    sql: str | None
    """The SQL of a model, named query or look-up."""
    chart: ChartInfo | None
    chart_sql: str | None
    """The query whose rows the chart draws; null for a named query, which is requested by its path."""
    sample_sql: str | None
    """A query of some rows, without columns that hold personal data; null where there is nothing else."""
    personal_columns: list[str]
    """Columns that the sample leaves out: by their classification, or that of a column they are computed from."""


class Catalog:
    """The catalog of the serving process. Its methods block while files and metadata are read; call them with `run`."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._reader = DefinitionReader(lake.settings)
        # Requests that wait for many models to be read must not take the threads of others.
        self._thread = ThreadPoolExecutor(1, "catalog")
        self._key: object = None
        self._contents: Contents | None = None

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread of the catalog."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *args, **kwargs))

    def contents(self, snapshot: LakeSnapshot) -> Contents:
        """Return the entries of this snapshot and of the files of now."""
        definitions = self._reader.read(snapshot)
        key = definitions.version, snapshot.tables.locations()
        if self._contents is None or key != self._key:
            entries = list_entries(snapshot, definitions)
            # Lineage depends on files and columns alone, so that commits leave it as it was.
            same = self._contents is not None and _shape(entries) == _shape(self._contents.entries)
            same = same and self._contents is not None and self._contents.definitions is definitions
            kept = self._contents.lineages if same and self._contents is not None else {}
            self._contents, self._key = Contents(snapshot, definitions, entries, kept), key
        return self._contents

    def page(self, contents: Contents, name: str, allowed: Collection[str]) -> CatalogPage:
        """Return everything about an entry, with lineage among the `allowed` entries."""
        entry, definitions = contents.entries[name], contents.definitions
        reads = contents.reads(allowed)
        lineage = lineage_of(reads, name)
        state, unreadable = self._state(contents, name)
        personal = personal_columns(contents, entry)
        chart = _chart_of(definitions, name)
        is_table = entry.kind in ("table", "view") or (entry.kind == "model" and contents.snapshot.tables.exists(name))
        return CatalogPage(
            entry=entry,
            columns=_columns(contents, entry, reads),
            lineage=lineage,
            state=state,
            unreadable=unreadable,
            checks=checks_of(self._lake.settings, definitions, name),
            contract=self._contract(contents, entry),
            request=_request_of(definitions, name),
            parameters=_parameters_of(definitions, name),
            sql=_sql_of(definitions, name),
            chart=ChartInfo(chart.kind, chart.x, [*chart.y], chart.by) if chart else None,
            chart_sql=_chart_sql(name, chart) if chart and is_table else None,
            sample_sql=_sample_sql(entry, personal) if is_table else None,
            personal_columns=personal,
        )

    def column_lineage(self, contents: Contents, name: str, column: str, allowed: Collection[str]) -> Lineage:
        """Return the lineage of one column, with nodes as `layer.name.column`."""
        near = {node for node in lineage_of(contents.reads(allowed), name).nodes if node in contents.entries}
        return lineage_of(contents.column_edges(near), f"{name}.{column}")

    def _state(self, contents: Contents, name: str) -> tuple[TableState, str | None]:
        if not contents.snapshot.tables.exists(name):
            return EMPTY, None
        try:
            return table_state(self._lake, contents.snapshot, contents.definitions, name), None
        except UNREADABLE as error:
            return EMPTY, str(error)

    def _contract(self, contents: Contents, entry: Entry) -> ContractInfo | None:
        stream = contents.snapshot.streams.get(entry.stream or "")
        if stream is None or entry.kind not in ("table", "view"):
            return None
        try:
            return contract_info(self._lake.settings, stream)
        except OSError:
            return None


def _shape(entries: Entries) -> Mapping[str, object]:
    return {name: (entry.columns, entry.reads) for name, entry in entries.items()}


def _columns(contents: Contents, entry: Entry, reads: Mapping[str, list[str]]) -> list[ColumnPage]:
    """Describe the columns of an entry with their direct lineage among the entries of `reads`."""
    near = {entry.name, *reads[entry.name], *downstream_of(reads, entry.name)}
    edges = contents.column_edges(near)
    readers = dict[str, list[str]]()
    for node, sources in edges.items():
        for source in sources:
            readers.setdefault(source, []).append(node)
    return [
        ColumnPage(
            name=column.name,
            type=column.type,
            description=column.description
            or _inherited(contents, column.name, edges.get(f"{entry.name}.{column.name}", [])),
            classification=column.classification,
            sources=edges.get(f"{entry.name}.{column.name}", []),
            readers=sorted(readers.get(f"{entry.name}.{column.name}", [])),
        )
        for column in entry.columns
    ]


def _inherited(contents: Contents, column: str, sources: list[str]) -> str:
    """Return the description of the only column that a column is computed from, where it keeps its name."""
    name, _, source = sources[0].rpartition(".") if len(sources) == 1 else ("", "", "")
    of = contents.entries.get(name)
    return next((each.description for each in of.columns if each.name == source == column), "") if of else ""


def _sample_sql(entry: Entry, personal: list[str]) -> str | None:
    shown = [quote(column.name) for column in entry.columns if column.name not in personal]
    layer, _, short = entry.name.partition(".")
    return f"select {', '.join(shown)}\nfrom {quote(layer)}.{quote(short)}\nlimit {SAMPLE_ROWS}" if shown else None


def _chart_sql(name: str, chart: Chart) -> str:
    columns = ", ".join(quote(column) for column in dict.fromkeys(chart.columns)) or "*"
    order = f"\norder by {quote(chart.x)} desc" if chart.x else ""
    layer, _, short = name.partition(".")
    return f"select {columns}\nfrom {quote(layer)}.{quote(short)}{order}\nlimit {CHART_ROWS}"


def _chart_of(definitions: Definitions, name: str) -> Chart | None:
    if name in definitions.models:
        return definitions.models[name].chart
    layer, _, short = name.partition(".")
    return definitions.queries[short].chart if layer == QUERIES else None


def _request_of(definitions: Definitions, name: str) -> str | None:
    layer, _, short = name.partition(".")
    if layer == QUERIES:
        return f"/v1/queries/{short}"
    return f"/v1/lookups/{short}/{{{definitions.lookups[short].key}}}" if layer == LOOKUPS else None


def _parameters_of(definitions: Definitions, name: str) -> list[ParameterInfo]:
    layer, _, short = name.partition(".")
    parameters = definitions.queries[short].parameters if layer == QUERIES else {}
    return [
        ParameterInfo(
            parameter, each.type, each.description, each.required, None if each.default is None else str(each.default)
        )
        for parameter, each in parameters.items()
    ]


def _sql_of(definitions: Definitions, name: str) -> str | None:
    layer, _, short = name.partition(".")
    if name in definitions.models:
        model = definitions.models[name]
        return model.path.read_text(encoding="utf-8") if model.path.exists() else model.sql
    if layer == QUERIES:
        return definitions.queries[short].sql
    return definitions.lookups[short].sql.strip() if layer == LOOKUPS else None
