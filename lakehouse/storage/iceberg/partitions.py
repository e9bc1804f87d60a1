"""Partition values: how Iceberg stores them, filters over them, and local files of one partition.

Kept apart from `commit`, which takes seconds to import.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pyiceberg.expressions import AlwaysFalse, BooleanExpression, In, Or
from pyiceberg.expressions.visitors import expression_evaluator, inclusive_projection, manifest_evaluator
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table

MAX_VALUES_PER_PREDICATE = 150
"""Iceberg's evaluators treat a set of more than 200 values as "might match anything"."""

_EPOCH = date(1970, 1, 1)

PartitionValue = str | date | int


@dataclass(frozen=True, slots=True)
class NewFile:
    """A local Parquet file of one partition, not yet in the table."""

    path: Path
    partition: tuple[PartitionValue, ...]


def date_from_days(days: int) -> date:
    """Convert a stored partition value of type `date`, days since 1970-01-01, to a date."""
    return _EPOCH + timedelta(days=days)


def days_from_date(day: date) -> int:
    """Convert a date to the days since 1970-01-01 that Iceberg stores."""
    return (day - _EPOCH).days


def stored_value(value: PartitionValue) -> str | int:
    """Convert a partition value to the form in which Iceberg stores it."""
    return days_from_date(value) if isinstance(value, date) else value


def partition_position(spec: PartitionSpec, column: str) -> int:
    """Return the position of a column's value in the partitions of a spec. Raises ValueError if it is not among them."""
    return [field.name for field in spec.fields].index(column)


def partitions_filter(column: str, values: Iterable[PartitionValue]) -> BooleanExpression:
    """Build the filter that selects the partitions with these values of `column`."""
    distinct = sorted(set(values))
    if not distinct:
        return AlwaysFalse()
    literals = [value.isoformat() if isinstance(value, date) else value for value in distinct]
    chunks = [
        literals[start : start + MAX_VALUES_PER_PREDICATE]
        for start in range(0, len(literals), MAX_VALUES_PER_PREDICATE)
    ]
    is_in: Any = In  # pydantic hides its signature from type checkers
    predicates: list[BooleanExpression] = [is_in(column, chunk) for chunk in chunks]
    return functools.reduce(Or, predicates) if len(predicates) > 1 else predicates[0]


class PartitionMatcher:
    """Decides whether a filter may match rows of a manifest, or of a partition, under one of the table's specs."""

    def __init__(self, table: Table, spec_id: int, where: BooleanExpression) -> None:
        schema, spec = table.schema(), table.specs()[spec_id]
        projected = inclusive_projection(schema, spec)(where)
        self.may_match_manifest = manifest_evaluator(spec, schema, projected)
        self.may_match_partition = expression_evaluator(
            Schema(*spec.partition_type(schema).fields), projected, case_sensitive=True
        )
