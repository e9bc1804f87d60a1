"""Generate the SQL of a stream that has no file of its own for it."""

from typing import Literal

from lakehouse.contracts.model import Contract
from lakehouse.contracts.sql import quote

Query = Literal["silver", "gold", "features", "alerts"]

QUERIES: tuple[Query, ...] = ("silver", "gold", "features", "alerts")

NO_FEATURES = "select as_of as dt from windows where false"

NO_ALERTS = """select
  dt,
  cast(null as varchar) as alert,
  cast(null as varchar) as severity,
  cast(null as varchar) as entity,
  cast(null as timestamp) as event_time,
  cast(null as double) as value,
  cast(null as double) as threshold,
  cast(null as varchar) as message,
  cast(null as varchar) as event_key
from events
where false"""


def default_sql(contract: Contract, query: Query) -> str:
    """Generate a query: silver hands on, gold counts by day and enumeration, and there are no features and no alerts."""
    match query:
        case "silver":
            return "select valid.* from valid"
        case "gold":
            return _counts_sql(contract)
        case "features":
            return NO_FEATURES
        case "alerts":
            return NO_ALERTS


def _counts_sql(contract: Contract) -> str:
    columns = ["dt", *(quote(field.name) for field in contract.fields if field.enum)]
    selected, grouped = (
        ",\n  ".join(names) for names in ([*columns, "count(*) as events -- Number of events."], columns)
    )
    return f"select\n  {selected}\nfrom silver\ngroup by\n  {grouped}"
