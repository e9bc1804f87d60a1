"""Call the function of a model in Python, and make its rows a view."""

import duckdb

from lakehouse.models.model import RETURNED, Model
from lakehouse.models.problems import model_error
from lakehouse.models.python_model import python_error


def show_returned(cursor: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Show the rows of a model in Python as the view `returned`; do nothing for one in SQL.

    The function is called with the tables that the cursor sees now. Raises ModelError if it fails.
    """
    if model.function is None:
        return
    cursor.execute(f"drop view if exists {RETURNED}")
    try:
        rows = model.function({name: cursor.sql(f"from {name}") for name in model.reads})
    except Exception as error:
        raise python_error(model.path, error) from error
    if isinstance(rows, duckdb.DuckDBPyRelation):
        select = rows.sql_query()
    else:
        try:
            cursor.register("rows_of_model", rows)
        except duckdb.Error as error:
            kind = type(rows).__name__
            message = f"returned a {kind}; return a DuckDB relation, an Arrow table or a data frame"
            raise model_error(model.path, message) from error
        select = "from rows_of_model"
    cursor.execute(f"create temp view {RETURNED} as {select}")
