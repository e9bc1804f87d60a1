"""`models`: list the models and what is stale of them, and compute it."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import typer

from lakehouse.cli.load import REFUSED_EXIT_CODE
from lakehouse.cli.options import Json
from lakehouse.cli.printing import counted, print_json, print_table, print_text, stderr
from lakehouse.errors import LakehouseError, StorageUnavailableError
from lakehouse.models.model import Model
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.model_staleness import LoadedModel, is_stale, stale_days
from lakehouse.pipeline.model_tables import replace_table_of_model
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

models = typer.Typer(add_completion=False)

Names = Annotated[
    list[str] | None, typer.Argument(metavar="MODEL…", help="Models such as gold.revenue; all by default.")
]
Days = Annotated[
    str | None, typer.Option("--days", metavar="FIRST..LAST", help="Compute these days of the models, stale or not.")
]

Again = Annotated[
    bool, typer.Option("--again", help="Compute all days of the models, or the whole table, stale or not.")
]

Replace = Annotated[
    bool,
    typer.Option("--replace", help="Make the tables of the models anew, without their history, then compute all days."),
]


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List every model with the tables that it reads and its stale days. Exit with 2 when one is wrong."""
    if context.invoked_subcommand is not None:
        return
    lake = Lake(get_settings(), metadata_only=True)
    checked = lake.models
    rows = [
        {
            "model": model.name,
            "reads": model.reads,
            "partition": model.header.partition,
            "schedule": model.header.schedule,
            "columns": len(checked.specs[model.name].columns),
            "stale": _stale(lake, model),
            "file": str(model.path),
        }
        for model in checked.models.by_name.values()
    ]
    if as_json:
        print_json({"models": rows, "problems": list(checked.models.problems)})
    else:
        _print(rows, lake.settings.models != ())
    _report_problems(checked.models.problems)


@models.command()
def run(
    names: Names = None, days: Days = None, again: Again = False, replace: Replace = False, as_json: Json = False
) -> None:
    """Compute what is stale of these models and of those that read them, or of all."""
    settings = get_settings()
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        by_name = lake.models.models.by_name
        if unknown := [name for name in names or () if name not in by_name]:
            raise LakehouseError(f"There is no model {', '.join(unknown)}; there are {', '.join(by_name) or 'none'}.")
        for name in (names or []) if replace else []:
            replace_table_of_model(lake, lake.models.specs[name])
        computed = _compute(lake, names or [], days) if days or again or replace else _refresh(lake, names)
    if as_json:
        print_json({"computed": computed, "problems": list(lake.models.models.problems)})
    else:
        for name, text in computed.items():
            print_text(f"{name}: {text}")
        print_text(f"Computed {counted(len(computed), 'model')}." if computed else "No model is stale.")
    if lake.models.models.problems:  # which were printed when the definitions were loaded
        raise SystemExit(REFUSED_EXIT_CODE)


def _refresh(lake: Lake, names: list[str] | None) -> dict[str, str]:
    from lakehouse.automation.runs import Runner, raise_on_failure  # Dagster takes seconds to import

    runner = Runner(lake)
    stale, outcome = runner.refresh_models(names)
    raise_on_failure(outcome)
    raise_on_failure(runner.refresh_lookups())
    return {name: format_days(days) or "whole" for name, days in stale.items()}


def _compute(lake: Lake, names: Sequence[str], text: str | None) -> dict[str, str]:
    """Compute these models, stale or not: these days, or all."""
    from lakehouse.automation.runs import Runner, raise_on_failure  # Dagster takes seconds to import

    if not names:
        raise LakehouseError(
            "--days, --again and --replace need the models to compute: lakehouse models run gold.revenue --again"
        )
    runner, computed = Runner(lake), dict[str, str]()
    for name in names:
        days = _days(lake, lake.models.models.by_name[name], text)
        raise_on_failure(runner.compute_model(name, days))
        computed[name] = format_days(days) if days else "whole"
    return computed


def _days(lake: Lake, model: Model, text: str | None) -> Sequence[date] | None:
    if not model.is_partitioned:
        if text:
            raise LakehouseError(f"{model.name} has no partitions; run it with --again.")
        return None
    first, last = _range(text) if text else (date.min, date.max)
    changes = LoadedModel.load(lake, model).changes.values()
    days = sorted({day for changed in changes for day in changed if first <= day <= last})
    if not days:
        raise LakehouseError(f"What {model.name} reads has no rows of these days.")
    return days


def _range(text: str) -> tuple[date, date]:
    first, _, last = text.partition("..")
    try:
        return date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError:
        raise LakehouseError(f"--days: {text!r} is no range of days such as 2025-01-01..2025-01-31.") from None


def _stale(lake: Lake, model: Model) -> str:
    try:
        if not model.is_partitioned:
            return "whole" if is_stale(lake, model) else ""
        return format_days(stale_days(lake, model))
    except StorageUnavailableError:
        return "unknown"
    except LakehouseError as error:
        return str(error)


def _print(rows: list[dict[str, Any]], has_folders: bool) -> None:
    columns = ("model", "reads", "partition", "schedule", "columns", "stale")
    shown = [[", ".join(row[name]) if name == "reads" else row[name] for name in columns] for row in rows]
    if rows:
        print_table("Models", columns, shown, right=("columns",))
    elif has_folders:
        print_text("There is no model. Write one as models/gold/NAME.sql: see docs/models.md.")
    else:
        print_text('No folder of models is set: put models = ["models"] into lakehouse.toml, or set LAKEHOUSE_MODELS.')


def _report_problems(problems: tuple[str, ...]) -> None:
    for problem in problems:
        print_text(f"Left out: {problem}", to=stderr)
    if problems:
        raise SystemExit(REFUSED_EXIT_CODE)
