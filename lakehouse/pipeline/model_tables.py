"""The tables of models: create them, let them follow a model, and find those that a stream's rows reach."""

from lakehouse.contracts.streams import Stream
from lakehouse.errors import SchemaChangeError
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.long_form import DAILY_METRICS
from lakehouse.pipeline.view_names import stream_view_names
from lakehouse.storage.iceberg.schema import TableSpec
from lakehouse.storage.objects.store import Objects, object_key


def ensure_table(lake: Lake, spec: TableSpec) -> None:
    """Create a model's table, or add the columns that it has gained.

    Raises SchemaChangeError if a column is gone or has another type now, or the partitions are others.
    """
    try:
        lake.tables.ensure([spec])
    except SchemaChangeError as error:
        what = str(error).partition(". ")[0].partition("; ")[0]
        remedy = f"To make the table anew, with all of its days: lakehouse models run {spec.name} --replace"
        raise SchemaChangeError(f"{what}. {remedy}") from None


def replace_table_of_model(lake: Lake, spec: TableSpec) -> None:
    """Drop a model's table with its history and files, and create it anew, without rows."""
    if lake.tables.exists(spec.name):
        table = lake.tables.load(spec.name)
        objects = Objects.from_url(lake.connection, table.location())
        keys = [info.key for info in objects.list(object_key(table.location()))]
        lake.tables.catalog.drop_table(spec.name)
        objects.delete(keys)
    lake.tables.ensure([spec])


def models_below(lake: Lake, stream: Stream) -> list[Model]:
    """List the models that read a stream's tables, also through other models, and whose table there is."""
    below = lake.models.models.below({*stream_view_names(stream.name), DAILY_METRICS})
    return [model for model in below if lake.tables.exists(model.name)]
