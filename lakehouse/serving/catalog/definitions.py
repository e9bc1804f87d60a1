"""Read the definitions that the catalog describes: streams, models, named queries, look-ups, dashboards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import columns_of
from lakehouse.errors import LakehouseError
from lakehouse.models.model import Model, Models, read_models
from lakehouse.pipeline.model_specs import CheckedModels, check_models
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.processes.file_stamps import file_stamps
from lakehouse.serving.lookups.declaration import Lookup, discover_lookups
from lakehouse.serving.query.dashboards import Dashboard, dashboard_stamps, read_dashboards
from lakehouse.serving.query.lake_snapshot import LakeSnapshot
from lakehouse.serving.query.named_queries import NamedQuery, reread_queries
from lakehouse.settings import Settings
from lakehouse.storage.iceberg.schema import TableSpec


@dataclass(frozen=True)
class Definitions:
    """Files as they were read."""

    version: int
    """Another number whenever they were read again."""
    streams: Mapping[str, Stream]
    specs: Mapping[str, TableSpec]
    """The tables of streams and models, by name."""
    models: Mapping[str, Model]
    queries: Mapping[str, NamedQuery]
    lookups: Mapping[str, Lookup]
    dashboards: Mapping[str, Dashboard]


class DefinitionReader:
    """Reads definitions again only where their files have changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stamps: object = None
        self._latest: Definitions | None = None

    def read(self, snapshot: LakeSnapshot) -> Definitions:
        """Return the definitions of now. What is wrong is left out, because others report it."""
        stamps = self._current_stamps(snapshot)
        if self._latest is None or stamps != self._stamps:
            self._latest, self._stamps = self._read(snapshot), stamps
        return self._latest

    def _current_stamps(self, snapshot: LakeSnapshot) -> object:
        files = file_stamps((*self._settings.models, *self._settings.queries, *self._settings.lookups), depth=2)
        return id(snapshot.streams), snapshot.tables.names(), files, dashboard_stamps(self._settings.dashboards)

    def _read(self, snapshot: LakeSnapshot) -> Definitions:
        streams, before = snapshot.streams, self._latest
        specs = {spec.name: spec for spec in _specs_of(streams.values())}
        models = read_models(self._settings.models, functions=False)
        checked = _checked(models, specs, snapshot)
        queries, _ = reread_queries(
            before.queries if before else {}, self._settings.queries, examples=self._settings.examples
        )
        lookups = discover_lookups(self._settings.lookups, streams, models.by_name).by_name
        python = {name: model for name, model in models.by_name.items() if model.function is not None}
        return Definitions(
            version=before.version + 1 if before else 1,
            streams=streams,
            specs={**specs, **checked.specs},
            models={**checked.models.by_name, **python},
            queries=queries,
            lookups=lookups,
            dashboards=read_dashboards(self._settings.dashboards)[0],
        )


def _specs_of(streams: Iterable[Stream]) -> list[TableSpec]:
    try:
        return table_specs(streams)
    except LakehouseError:
        return []  # the files of a stream are being saved: its tables are described as they are


def _checked(models: Models, specs: Mapping[str, TableSpec], snapshot: LakeSnapshot) -> CheckedModels:
    """Check the models in SQL over the tables of now. Those in Python are not run here: their tables say what they hold."""
    computed = [
        TableSpec(name, tuple(columns_of(snapshot.tables.load(name))), ())
        for name, model in models.by_name.items()
        if model.function is not None and snapshot.tables.exists(name)
    ]
    in_sql = {name: model for name, model in models.by_name.items() if model.function is None}
    return check_models(Models(in_sql, models.problems), [*specs.values(), *computed])
