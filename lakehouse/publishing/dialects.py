"""The SQL of the lake and of each warehouse: types of columns, and expressions that have one value in all of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from lakehouse.contracts.sql import quote

Columns = tuple[tuple[str, str], ...]
"""The columns of a table as (name, DuckDB type)."""

APPROXIMATE = ("double", "float")
"""Types whose sums depend on the order of the rows."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The SQL of one kind of database. `{0}` in a template is the column."""

    name: str
    """As sqlglot names it."""
    nested: str
    """The type of lists and maps, which are written as JSON."""
    digest: str
    """The first 60 bits of the MD5 of a text, as an integer."""
    epoch_us: str
    """The microseconds of a timestamp since 1970, as an integer."""

    def type_of(self, duckdb_type: str) -> str:
        """Return the type of a column that has this type in DuckDB."""
        return self.nested if is_nested(duckdb_type) else exp.DataType.build(duckdb_type, "duckdb").sql(self.name)

    def quote(self, *names: str) -> str:
        """Quote a name with the names of what it is in."""
        return ".".join(exp.to_identifier(name, quoted=True).sql(self.name) for name in names)


WITHOUT_NUL = "replace({0}, chr(0), chr(65533))"
"""No warehouse takes U+0000 in texts, so it is published, and compared, as the replacement character."""

LAKE = Dialect("duckdb", "json", f"('0x' || substr(md5({WITHOUT_NUL}), 1, 15))::bigint", "epoch_us({0})")


def is_nested(duckdb_type: str) -> bool:
    """Return whether values of this type are lists or maps."""
    return duckdb_type.endswith("[]") or duckdb_type.startswith(("map(", "struct("))


def measures(columns: Columns, dialect: Dialect) -> dict[str, str]:
    """Return what is compared of a partition, by its name, as an aggregate of the dialect.

    Numbers and times are summed, dates and texts are digested and summed, so that the order of rows does not matter. Of lists
    and maps, values are counted, because each database writes JSON in its own way.
    """
    found = {"rows": "count(*)"}
    for name, kind in columns:
        column = dialect.quote(name)
        found[f"count({name})"] = f"count({column})"
        if kind in APPROXIMATE:
            found |= {f"{function}({name})": f"{function}({column})" for function in ("sum", "min", "max")}
        elif kind == "boolean":
            found[f"sum({name})"] = f"sum(case when {column} then 1 else 0 end)"
        elif kind.startswith("timestamp"):
            found[f"sum({name})"] = f"sum({dialect.epoch_us.format(column)})"
        elif kind in ("varchar", "date"):
            text = column if kind == "varchar" else f"cast({column} as {dialect.type_of('varchar')})"
            found[f"digest({name})"] = f"sum({dialect.digest.format(text)})"
        elif not is_nested(kind):
            found[f"sum({name})"] = f"sum({column})"
    return found


def measures_sql(columns: Columns, dialect: Dialect, source: str, by: str | None, values: Iterable[str]) -> str:
    """Write the SELECT of a table's measures: one row with the partition, then each measure, for these partitions."""
    partition = dialect.quote(by) if by else "'whole'"
    aggregates = ",\n  ".join(measures(columns, dialect).values())
    days = ", ".join(f"date '{value}'" for value in values)
    where = f"\nwhere {partition} in ({days})\ngroup by {partition}" if by else ""
    return f"select\n  {partition},\n  {aggregates}\nfrom {source}{where}"


def rows_sql(columns: Columns, source: str, by: str | None, partition: str) -> str:
    """Write the SELECT of a partition's rows in the lake, with lists and maps as JSON."""
    listed = ",\n  ".join(f"{_published(quote(name), kind)} as {quote(name)}" for name, kind in columns)
    where = f"\nwhere {quote(by)} = date '{partition}'" if by else ""
    return f"select\n  {listed}\nfrom {source}{where}"


def _published(column: str, kind: str) -> str:
    """Write a column as it is published."""

    def texts(values: str) -> str:
        return f"list_transform({values}, lambda text: {WITHOUT_NUL.format('text')})"

    if kind == "varchar":
        return WITHOUT_NUL.format(column)
    if kind == "varchar[]":
        return f"to_json({texts(column)})::varchar"
    if is_nested(kind):
        return f"to_json(map({texts(f'map_keys({column})')}, {texts(f'map_values({column})')}))::varchar"
    return column


def empty_measures(columns: Columns) -> Mapping[str, object]:
    """Return the measures of a partition without rows."""
    return {name: 0 if name == "rows" or name.startswith("count(") else None for name in measures(columns, LAKE)}
