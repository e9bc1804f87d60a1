"""Models for one test: files in a folder, checked against the tables of the test's lake."""

from collections.abc import Mapping
from pathlib import Path

from lakehouse.models.model import Model, read_models
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_specs import CheckedModels, check_models
from lakehouse.pipeline.model_tables import ensure_table
from lakehouse.pipeline.table_specs import table_specs


def write_models(folder: Path, files: Mapping[str, str]) -> Path:
    """Write models, by their path such as `gold/sales.sql`, to a folder within this one, and return that."""
    folder = folder / "models"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def check(lake: Lake, folder: Path) -> CheckedModels:
    """Read and check the models of a folder, and create their tables."""
    checked = check_models(read_models([folder]), table_specs(lake.streams.values()))
    for spec in checked.specs.values():
        ensure_table(lake, spec)
    return checked


def only(checked: CheckedModels) -> Model:
    """Return the one model there is."""
    assert checked.models.problems == ()
    (model,) = checked.models.by_name.values()
    return model
