"""Clean a group of days in SQL, where a day is too large for memory: DuckDB spills to disk."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from lakehouse.contracts.sql import clean_sql, quote
from lakehouse.engine.connection import bind
from lakehouse.engine.filters import days_filter
from lakehouse.pipeline.day_groups import DayGroup
from lakehouse.storage.iceberg.partitions import NewFile

ROW_HASH = "hash(_arrived_at, _row)"
"""A short identity of a row: unique within a landing object, and nearly so across several."""


class SpillingGroup(DayGroup):
    """A group that is cleaned in several passes over bronze, each of which keeps little of a row."""

    def _find_suspects(self) -> None:
        """Keep each row's hash and the hash of its key.

        Suspects are the rows that break the contract, those whose key hash occurs twice, and the few that share a row
        hash with one of these. All others are read and cleaned again.
        """
        self._make(
            "table checked",
            f"""select dt, {ROW_HASH} as origin, hash(dt, {self.keys}) as key_hash, _valid
            from ({clean_sql(self.contract)})""",
        )
        self._make(
            "table suspected",
            """select distinct origin
            from checked
            where not _valid or key_hash in (
              select key_hash
              from checked
              where _valid
              group by key_hash
              having count(*) > 1
            )""",
        )
        self._make("table suspects", f"from bronze where {ROW_HASH} in (from suspected)")
        # Use a join: DuckDB pushes a filter down and matches the regular expressions again for every row.
        self._make(
            "view clean",
            f"""select {", ".join(map(quote, self.columns))}
            from (select *, {ROW_HASH} as origin from ({clean_sql(self.contract)}))
            anti join suspected using (origin)""",
        )

    def _make_survivors(self) -> None:
        self._make("view survivors", f"from {self.clean} union all (from latest order by dt)")

    def _count_clean(self) -> dict[date, int]:
        return dict(self._query("select dt, count(*) from checked anti join suspected using (origin) group by dt"))

    def _write_silver(self, days: Sequence[date], folder: Path, name: str) -> list[NewFile]:
        where = "true" if len(days) == len(self.days) else days_filter(days)
        inputs = ", ".join(map(quote, self.inputs))
        select = bind(self.stream.sql("silver"), {"valid": f"select {inputs} from survivors where {where}"})
        return self._copy(select, self.tables.silver, days, folder, name)
