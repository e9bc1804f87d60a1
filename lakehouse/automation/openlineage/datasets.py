"""Name assets as datasets of OpenLineage, https://openlineage.io/docs/spec/naming, and describe them by facets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    documentation_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    symlinks_dataset,
)

from lakehouse.engine.connection import columns_of
from lakehouse.pipeline.column_lineage import ColumnLineage, sql_lineage, stream_select
from lakehouse.pipeline.lake import Lake

COLUMN_SCHEMA, COLUMN_LINEAGE = "dagster/column_schema", "dagster/column_lineage"


@dataclass(frozen=True)
class AssetDatasets:
    """The datasets that the assets of a code location are: tables where they are stored, objects by their prefix."""

    lake: Lake
    graph: Any
    """Dagster's asset graph."""
    namespace: str
    """Of the names of tables, such as silver.retail, which are links to their datasets."""

    @cached_property
    def _tables(self) -> frozenset[str]:
        return frozenset(self.lake.tables.names())

    def identity(self, key: dg.AssetKey) -> tuple[str, str]:
        """Return the namespace and the name of an asset: the S3 bucket, and the path of the table or objects."""
        if (table := ".".join(key.path)) in self._tables:
            place = urlsplit(self.lake.tables.load(table).location())
            return f"{place.scheme}://{place.netloc}", place.path.strip("/")
        layer, *rest = key.path
        return f"s3://{self.lake.connection.bucket}", "/".join(["realtime" if layer == "landing" else layer, *rest])

    def parents(self, keys: Iterable[dg.AssetKey]) -> list[dg.AssetKey]:
        """List the assets that these are computed from, in the order of their names."""
        known = [key for key in keys if self.graph.has(key)]
        return sorted({parent for key in known for parent in self.graph.get(key).parent_keys})

    def input(self, key: dg.AssetKey, checks: Sequence[dg.AssetCheckEvaluation] = ()) -> InputDataset:
        """Describe an asset that a run reads, or checks."""
        namespace, name = self.identity(key)
        assertions = [
            data_quality_assertions_dataset.Assertion(
                assertion=check.check_name,
                success=check.passed,
                severity="error" if check.severity == dg.AssetCheckSeverity.ERROR else "warn",
                description=check.description,
            )
            for check in checks
        ]
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
        return InputDataset(
            namespace, name, {"dataQualityAssertions": facet} if assertions else {}, facets=self._facets(key)
        )

    def output(self, key: dg.AssetKey, written: Mapping[str, Mapping[str, Any]]) -> OutputDataset:
        """Describe an asset that a run wrote: `written` has the metadata of its partitions."""
        namespace, name = self.identity(key)
        facets = self._facets(key)
        snapshots = [str(of["snapshot_id"]) for of in written.values() if of.get("snapshot_id", "none") != "none"]
        if snapshots:
            facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=snapshots[-1])
        if (lineage := _reported_lineage(written) or self._stream_lineage(".".join(key.path))) is not None:
            facets["columnLineage"] = self._column_lineage(lineage)
        rows = [of["rows"] for of in written.values() if isinstance(of.get("rows"), int)]
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=sum(rows))
        return OutputDataset(namespace, name, {"outputStatistics": statistics} if rows else {}, facets=facets)

    def _facets(self, key: dg.AssetKey) -> dict[str, DatasetFacet]:
        node = self.graph.get(key) if self.graph.has(key) else None
        facets: dict[str, DatasetFacet] = {}
        if (table := ".".join(key.path)) in self._tables:
            link = symlinks_dataset.Identifier(namespace=self.namespace, name=table, type="TABLE")
            facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[link])
        if node is not None and node.description:
            facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=node.description)
        if node is not None and (schema := node.metadata.get(COLUMN_SCHEMA)) is not None:
            facets["schema"] = _schema(getattr(schema, "value", schema))
        return facets

    def _stream_lineage(self, table: str) -> ColumnLineage | None:
        """Find the lineage of a stream's table that its run does not report, because runs don't spend time on it."""
        for stream in self.lake.streams.values():
            if (found := stream_select(stream, table)) is not None:
                sql, source = found
                return _sql_lineage(sql, source, tuple(columns_of(self.lake.tables.load(source))))
        return None

    def _column_lineage(self, lineage: ColumnLineage) -> DatasetFacet:
        fields = {
            column: column_lineage_dataset.Fields(
                inputFields=[
                    column_lineage_dataset.InputField(*self.identity(dg.AssetKey(table.split("."))), field=name)
                    for table, name in sources
                ]
            )
            for column, sources in lineage.items()
            if sources
        }
        return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)


def _reported_lineage(written: Mapping[str, Mapping[str, Any]]) -> ColumnLineage | None:
    """Return the lineage that a run has reported with one of the partitions."""
    lineage: dg.TableColumnLineage | None = next(
        (of[COLUMN_LINEAGE] for of in written.values() if COLUMN_LINEAGE in of), None
    )
    if lineage is None:
        return None
    return {
        column: [(".".join(dep.asset_key.path), dep.column_name) for dep in deps]
        for column, deps in lineage.deps_by_column.items()
    }


@lru_cache(maxsize=256)
def _sql_lineage(sql: str, source: str, columns: tuple[tuple[str, str], ...]) -> ColumnLineage:
    return sql_lineage(sql, {source: columns})


def _schema(schema: dg.TableSchema) -> DatasetFacet:
    return schema_dataset.SchemaDatasetFacet(
        fields=[
            schema_dataset.SchemaDatasetFacetFields(name=column.name, type=column.type, description=column.description)
            for column in schema.columns
        ]
    )
