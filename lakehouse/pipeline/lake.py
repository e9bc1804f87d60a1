"""Open a lake: its storage, tables, engine and streams in one object that every layer is computed with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from pyiceberg.table import Table

from lakehouse.contracts.streams import Stream, discover, find_stream, revision
from lakehouse.engine.connection import DuckDB
from lakehouse.engine.shipping import Machine
from lakehouse.engine.spark import SparkWorkers
from lakehouse.engine.workers import LocalWorkers, Workers
from lakehouse.errors import ContractError, EngineError, LakehouseError, SchemaChangeError
from lakehouse.models.model import Model, read_models
from lakehouse.pipeline.lineage.realtime_coverage import is_large, uncovered_hours
from lakehouse.pipeline.live_gold import LiveRows
from lakehouse.pipeline.model_specs import CheckedModels, find_models
from lakehouse.pipeline.table_specs import SILVER_BEFORE_PROPERTY, anomaly_tables, table_specs
from lakehouse.pipeline.view_names import models_by_view
from lakehouse.settings import PIPES, Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.iceberg.change_marks import ChangeMarks
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.iceberg.snapshots import sequence_of
from lakehouse.storage.iceberg.tables import Tables
from lakehouse.storage.objects.connection import Connection
from lakehouse.storage.objects.store import Objects


class Lake:
    """One lake: where its data is, and what reads and writes it.

    Every part is opened when you first use it, so making a `Lake` costs nothing and asks nothing of the storage. Share
    one between threads; give each thread a cursor of its own with `lake.engine.cursor()`.

    Example:
        lake = Lake(get_settings())
        lake.bootstrap()
        ingest_days(lake, lake.stream("retail"), [date(2025, 11, 20)])

    """

    def __init__(
        self, settings: Settings, connection: Connection | None = None, *, metadata_only: bool = False
    ) -> None:
        """Describe a lake by its settings.

        Args:
            settings: Says where the lake is, and how much memory and how many threads its engine uses.
            connection: Use this storage. Without it, the storage that the settings name, or the embedded server.
            metadata_only: Load tables to look them up, never to write them, which imports less; see `Tables`.

        """
        self.settings = settings
        self._connection = connection
        self._metadata_only = metadata_only
        self._uncovered: dict[str, tuple[tuple[str, str], Sequence[str] | None]] = {}
        self._revision: tuple[Path, ...] | None = None

    @cached_property
    def connection(self) -> Connection:
        """Where the storage is and how to log in. Raises StorageUnavailableError if the embedded server is not running."""
        return self._connection or storage.connection(self.settings)

    @cached_property
    def streams(self) -> dict[str, Stream]:
        """All streams by name. Raises ContractError if a contract is wrong."""
        self._revision = revision(self.settings.streams)
        return discover(self.settings.streams, examples=self.settings.examples)

    @property
    def has_moved_streams(self) -> bool:
        """Whether the folders of the streams have moved since they were discovered; see `contracts.streams.revision`."""
        return self._revision is not None and self._revision != revision(self.settings.streams)

    def reload_streams(self) -> None:
        """Discover the streams again. Raises ContractError if a contract is wrong; the streams then stay."""
        moved_to = revision(self.settings.streams)
        self.streams = discover(self.settings.streams, examples=self.settings.examples)
        self._revision = moved_to
        self._uncovered.clear()
        self.reload_models()

    def reload_models(self) -> None:
        """Read the models again when they are next used."""
        self.__dict__.pop("models", None)
        self.__dict__.pop("live_models", None)

    @cached_property
    def models(self) -> CheckedModels:
        """The models that are right, with the specifications of their tables, and what is wrong with others."""
        return find_models(self.settings.models, self.streams.values())

    @cached_property
    def tables(self) -> Tables:
        """The Iceberg tables, by names such as `silver.retail`."""
        return Tables(self.connection, metadata_only=self._metadata_only, marks=self.changes("tables"))

    @cached_property
    def objects(self) -> Objects:
        """The S3 objects: landing objects and what is exported for other tools."""
        return Objects.from_connection(self.connection)

    @cached_property
    def engine(self) -> DuckDB:
        """DuckDB with this process's share of memory and threads."""
        return DuckDB.of(self.settings, self.connection)

    def workers(self, stream: Stream, size: Callable[[], int]) -> Workers:
        """Choose who computes a run of a stream that reads `size` bytes: this process, or Spark where it is asked for."""
        on_spark = (stream.contract.engine or self.settings.engine) == "spark" and self.settings.spark != PIPES
        if on_spark and size() >= self.settings.spark_from_mb << 20:
            return self._spark
        return LocalWorkers(self.engine)

    def other_workers(self, workers: Workers) -> Workers:
        """Return the workers of the engine that these are not of. Raises EngineError if Spark is reached by jobs only."""
        if not isinstance(workers, LocalWorkers):
            return LocalWorkers(self.engine)
        if self.settings.spark == PIPES:
            raise EngineError("LAKEHOUSE_SHADOW_SHARE needs a Spark to connect to; LAKEHOUSE_SPARK=pipes starts jobs.")
        return self._spark

    @cached_property
    def _spark(self) -> Workers:
        settings = self.settings
        machine = Machine(self.connection, settings.memory_limit_mb, settings.spill_mb)
        return SparkWorkers(settings.spark, machine)

    @property
    def tail(self) -> Mapping[str, Sequence[str]]:
        """The hot tail, which is empty: only the serving process holds one."""
        return {}

    @property
    def live_rows(self) -> Mapping[str, LiveRows]:
        """Rows of live gold that are computed already: none, because only the serving process keeps them."""
        return {}

    @cached_property
    def live_models(self) -> Mapping[str, Model]:
        """The models of gold that have a live view, by its name. Those that can't be read are left out."""
        return models_by_view(read_models(self.settings.models, functions=False).by_name.values())

    def stream(self, name: str) -> Stream:
        """Return the stream of that name. Raises UnknownStreamError, which lists the streams there are."""
        return find_stream(self.streams, name)

    def bootstrap(self, streams: Iterable[Stream] | None = None) -> list[str]:
        """Create missing tables of these streams, or of all and of models, and add missing columns to the others.

        Returns one line for each change. Raises SchemaChangeError if a table can't be changed to what its contract says,
        and ContractError if a SQL file is wrong: such a stream keeps its tables, and those of all others are done first.
        """
        models = self.models.specs if streams is None else {}
        streams = [*(self.streams.values() if streams is None else streams)]
        try:
            return self.tables.ensure([*self._stream_specs(streams), *models.values()])
        except (SchemaChangeError, ContractError):
            if len(streams) + len(models) < 2:
                raise
        changes, errors = list[str](), list[LakehouseError]()
        parts = [partial(self.bootstrap, [stream]) for stream in streams]
        parts += [partial(self.tables.ensure, [spec]) for spec in models.values()]
        for ensure in parts:
            try:
                changes += ensure()
            except (SchemaChangeError, ContractError) as error:
                errors.append(error)
        if errors:
            raise type(errors[0])(" ".join(map(str, errors)))
        return changes

    def _stream_specs(self, streams: Sequence[Stream]) -> list[TableSpec]:
        """Specify the tables of streams. New tables of anomalies note which commits of silver were there before them."""
        specs, names = table_specs(streams), frozenset(self.tables.names())
        silver_of = {name: f"silver.{stream.name}" for stream in streams for name in anomaly_tables(stream)[:1]}
        return [
            replace(
                spec, properties={**spec.properties, SILVER_BEFORE_PROPERTY: str(sequence_of(self.tables.load(silver)))}
            )
            if (silver := silver_of.get(spec.name)) in names and spec.name not in names and silver
            else spec
            for spec in specs
        ]

    def changes(self, kind: str) -> ChangeMarks:
        """Return the marks by which processes of this home tell each other of changed `tables`, or changed `lookups`."""
        return ChangeMarks(self.settings.root / "changes" / kind)

    def uncovered(self, stream: Stream, silver: Table, realtime: Table) -> Sequence[str] | None:
        """Return the hours of realtime that may have a key that silver lacks, of both tables as loaded; None for all hours."""
        if not is_large(realtime):
            return None
        versions = silver.metadata_location, realtime.metadata_location
        if stream.name not in self._uncovered or self._uncovered[stream.name][0] != versions:
            hours = uncovered_hours(stream, realtime, self.tables.load(f"bronze.{stream.name}"), silver)
            self._uncovered[stream.name] = versions, hours
        return self._uncovered[stream.name][1]
