"""`features`: add features at a point in time to a file of entities with times."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import typer

from lakehouse.cli.printing import counted, progress, stderr
from lakehouse.errors import ParameterError
from lakehouse.pipeline.lake import Lake
from lakehouse.serving.features.training_set import features as add_features
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

FORMATS = (".parquet", ".csv")

File = Annotated[
    Path, typer.Argument(help="CSV or Parquet with `time` and the column of each stream's entity, such as device_id.")
]
Names = Annotated[list[str], typer.Argument(metavar="FEATURE…", help="Features such as iot.readings_7d.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write or replace: .parquet or .csv.")]


def features(file: File, names: Names, output: Output) -> None:
    """Add the features and write the file. Raises ParameterError if a file or value is wrong, or a feature is unknown."""
    for path in (file, output):
        if path.suffix not in FORMATS:
            raise ParameterError(f"{path} is neither .parquet nor .csv.")
    entities = _read(file)
    settings = get_settings()
    with storage.running(settings) as connection, progress() as bars:
        bars.add_task(f"Computing features of {counted(len(entities), 'row')}", total=None)
        table = add_features(entities, names, lake=Lake(settings, connection, metadata_only=True))
    if output.suffix == ".csv":
        csv.write_csv(table, output)
    else:
        pq.write_table(table, output)
    stderr.print(f"{output}: {counted(len(table), 'row')}, {counted(len(names), 'feature')}")


def _read(file: Path) -> pa.Table:
    """Read a file of entities. CSV is read as texts, so that a time without a zone is refused; an empty field is missing."""
    try:
        if file.suffix == ".parquet":
            return pq.read_table(file)
        names = csv.open_csv(file).schema.names
        texts = dict.fromkeys(names, pa.string())
        options = csv.ConvertOptions(column_types=texts, strings_can_be_null=True, null_values=[""])
        return csv.read_csv(file, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise ParameterError(f"{file} can't be read: {error}") from error
