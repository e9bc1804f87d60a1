"""Read models from files: `{layer}/{name}.sql`, or `.py`, is the model of the table `layer.name`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import duckdb

from lakehouse.contracts.definition import Definition, canonical_number
from lakehouse.contracts.in_memory import open_in_memory
from lakehouse.contracts.odcs import NAME
from lakehouse.errors import ModelError
from lakehouse.models.chart import Chart, ChartError, read_chart
from lakehouse.models.header import COMMENT, Header, parse_header
from lakehouse.models.history import history_sql
from lakehouse.models.problems import model_error
from lakehouse.models.python_model import Compute, load_function, not_loaded, read_python
from lakehouse.models.sql_tables import SqlError, SqlTable, tables_read

LAYERS = ("silver", "gold", "serving")
"""The layers that a model's table may be of."""

RETURNED = "returned"
"""The view of the rows that a model in Python returns."""


@dataclass(frozen=True)
class Model:
    """A SELECT over tables, or a function of them, whose rows are the table of the model's name."""

    name: str
    """As `layer.name`."""
    path: Path
    header: Header = field(repr=False)
    sql: str = field(repr=False)
    """The SELECT, on the lines that it has in the file; of a model in Python, its code."""
    tables: tuple[SqlTable, ...] = field(repr=False)
    function: Compute | None = field(default=None, repr=False)
    """The function that computes the rows of a model in Python; None of one in SQL."""
    chart: Chart | None = None
    """How the catalog draws its rows."""

    @property
    def reads(self) -> list[str]:
        """The tables that it reads, as `layer.name`."""
        return [table.name for table in self.tables]

    @property
    def is_partitioned(self) -> bool:
        """Whether its table is partitioned by `dt`, and computed by day."""
        return self.header.partition == "dt"

    @property
    def select(self) -> str:
        """The SELECT of the table's rows."""
        return self.select_of(f"from {RETURNED}" if self.function else self.sql)

    def select_of(self, rows: str) -> str:
        """Generate the SELECT of the table's rows from that of what the SQL or the function returns."""
        history = self.header.history
        return rows if history is None else history_sql(rows, history)

    @cached_property
    def definition(self) -> Definition:
        """The number of what its rows are computed by: the SQL, and what the header says of it."""
        parts = f"{self.select_of(self.sql)} {self.header.partition} {self.header.look_back}"
        return Definition(self.name, canonical_number(parts))


@dataclass(frozen=True)
class Models:
    """The models of some folders, each after those that it reads, and what is wrong with the others."""

    by_name: Mapping[str, Model] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def below(self, names: Iterable[str]) -> list[Model]:
        """List the models that read one of these tables, also through other models; each after those that it reads."""
        reached = {*names}
        found = []
        for model in self.by_name.values():
            if reached & {*model.reads}:
                reached.add(model.name)
                found.append(model)
        return found


def read_models(folders: Iterable[Path], *, functions: bool = True) -> Models:
    """Read the models of these folders. One that is wrong, or on a cycle, is a problem and is left out.

    Without `functions`, files in Python are not run, and their models can't be computed.
    """
    models, problems = dict[str, Model](), list[str]()
    with open_in_memory() as database:
        for folder in folders:
            if not folder.is_dir():
                problems.append(f"{folder}: is not a folder. LAKEHOUSE_MODELS lists folders of models.")
            for path in sorted([*folder.glob("*/*.sql"), *folder.glob("*/*.py")]):
                try:
                    model = read_model(path, database, functions=functions)
                    if model.name in models:
                        raise model_error(path, f"{model.name} is also in {models[model.name].path}")
                    models[model.name] = model
                except ModelError as error:
                    problems.append(str(error))
            problems += [
                f"{path}: a model is a file {'|'.join(LAYERS)}/name.sql" for path in sorted(folder.glob("*.sql"))
            ]
    return _in_order(models, problems)


def read_model(path: Path, database: duckdb.DuckDBPyConnection, *, functions: bool = True) -> Model:
    """Read the model of one file; see `read_models`. Raises ModelError with the file, the line and the rule."""
    layer, name = path.parent.name, path.stem
    if layer not in LAYERS:
        raise model_error(path, f"{layer} is no layer of models; there are {', '.join(LAYERS)}")
    if not NAME.fullmatch(name):
        raise model_error(path, f"{name} is no name of a table: lower-case letters, digits and _, up to 63")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise model_error(path, f"can't be read ({error})") from error
    if path.suffix == ".py":
        header, code = read_python(path, text)
        tables = tuple(SqlTable(read.lower(), 1) for read in header.reads)
        return Model(f"{layer}.{name}", path, header, code, tables, load_function(path) if functions else not_loaded)
    comment = COMMENT.match(text)
    if comment is None:
        raise model_error(path, "must start with a /* … */ comment with a description, in YAML")
    header = parse_header(path, comment["yaml"], text.count("\n", 0, comment.start("yaml")) + 1)
    sql = "\n" * text.count("\n", 0, comment.end()) + text[comment.end() :].rstrip().rstrip(";")
    try:
        tables, chart = tuple(tables_read(database, sql)), read_chart(text)
    except (SqlError, ChartError) as error:
        raise model_error(path, str(error), error.line) from error
    return Model(f"{layer}.{name}", path, header, sql, tables, chart=chart)


def _in_order(models: Mapping[str, Model], problems: list[str]) -> Models:
    left = dict(models)
    while True:
        graph = {name: [read for read in model.reads if read in left] for name, model in left.items()}
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            cycle = error.args[1][::-1]
            first = left[cycle[0]]
            lines = {table.name: table.line for table in first.tables}
            problems.append(str(model_error(first.path, f"reads itself: {' reads '.join(cycle)}", lines[cycle[1]])))
            for name in cycle:
                left.pop(name, None)
        else:
            return Models({name: left[name] for name in order}, tuple(problems))
