"""Write requests for features as SQL, so that a process without a table of them can compute them."""

import pyarrow as pa

from lakehouse.contracts.sql import literal
from lakehouse.pipeline.point_in_time.known_features import AT, ENTITY, NUMBER


def inline_requests(requests: pa.Table) -> str:
    """Write requests as a FROM item with the same rows."""
    is_text = pa.types.is_string(requests.schema.field(ENTITY).type)
    rows = ",\n".join(
        f"({row[NUMBER]}, {literal(row[ENTITY]) if is_text else f'{row[ENTITY]}::bigint'}, timestamp '{row[AT]}')"
        for row in requests.to_pylist()
    )
    return f"(select * from (values {rows}) as given({NUMBER}, {ENTITY}, {AT}))"
