"""Write the times and decimals of one file plainly, so that the contract reads its rows like all others."""

import os
from collections.abc import Iterable, Iterator

import pyarrow as pa

from lakehouse.contracts.casts import field_value_sql
from lakehouse.contracts.dialect import Dialect
from lakehouse.contracts.model import Contract, Field
from lakehouse.contracts.sql import literal, quote, raw_sql
from lakehouse.landing.readers.arrow import one_array
from lakehouse.landing.readers.json_batch import shared_database


def has_values_of_its_own(contract: Contract, dialect: Dialect) -> bool:
    """Return whether times or decimals are written otherwise in this dialect than in that of the contract."""
    return dialect != contract.dialect and contract.written_in(dialect).fields != contract.fields


def write_plainly(contract: Contract, dialect: Dialect, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write the values of rows as their file's dialect means them.

    A row with a time that is none in this dialect becomes a defect, because the contract may read it as another time.
    """
    sql = _plain_sql(contract.written_in(dialect))
    for batch in batches:
        with shared_database(os.getpid()).cursor() as cursor:
            cursor.execute("set timezone = 'UTC'")
            cursor.register("batch", pa.Table.from_batches([batch]))
            plain = cursor.execute(sql).to_arrow_table()
        for name in plain.column_names:
            column = one_array(plain.column(name))
            batch = batch.set_column(batch.schema.get_field_index(name), batch.schema.field(name), column)
        yield batch


def _plain_sql(contract: Contract) -> str:
    """Build the query over `batch` for the columns that may change."""
    written = [field for field in contract.fields if field.type.kind == "timestamp" or field.is_rounded]
    values = ",\n    ".join(
        f"{field_value_sql(contract, field, quote(field.name))} as {_value(field)}" for field in written
    )
    reasons = ",\n    ".join(_reason(field) for field in written if field.type.kind == "timestamp")
    texts = ",\n  ".join(
        f"case when reason = '' then {_plain(field) if field in written else quote(field.name)} end as {quote(field.name)}"
        for field in contract.fields
    )
    return f"""select
  {texts},
  case when reason = '' then _extra end as _extra,
  case when reason = '' then _raw else {raw_sql(contract)} end as _raw,
  case when reason = '' then _defect else reason end as _defect
from (
  select
    *,
    concat_ws('; ', {reasons}) as reason
  from (
    select
    *,
    {values}
    from batch
  )
)"""


def _value(field: Field) -> str:
    return quote(f"{field.name} as value")


def _plain(field: Field) -> str:
    zone = " || 'Z'" if field.type.kind == "timestamp" else ""
    return f"coalesce(cast({_value(field)} as varchar){zone}, {quote(field.name)})"


def _reason(field: Field) -> str:
    formats = " or ".join(["ISO 8601", *(form.text for form in field.format)])
    reason = literal(f"{field.name} is not a time in {formats}")
    return f"case when {quote(field.name)} <> '' and {_value(field)} is null then {reason} end"
