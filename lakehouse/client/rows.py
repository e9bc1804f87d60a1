"""The rows of a query, with their exact types, as Arrow, pandas, Polars or Python objects."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.client.results import Statistics

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a query. Iterate over them as dicts, or take them as a table or frame.

    Times without a zone are UTC.
    """

    statistics: Statistics
    _stream: bytes = field(repr=False)
    """An Arrow stream."""

    def arrow(self) -> "pa.Table":
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        return pa.ipc.open_stream(self._stream).read_all()

    def pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas frame of Arrow types, because those of NumPy would round decimals and integers."""
        import pandas as pd

        return self.arrow().to_pandas(types_mapper=pd.ArrowDtype)

    def polars(self) -> "pl.DataFrame":
        """Return the rows as a Polars frame. Needs Polars: `pip install polars`."""
        import polars as pl

        frame = pl.from_arrow(self.arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts by column; decimals are `Decimal`, maps are dicts."""
        for batch in self.arrow().to_batches():
            yield from batch.to_pylist(maps_as_pydicts="strict")

    def __len__(self) -> int:
        return self.statistics.rows

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self.arrow().column_names

    @property
    def truncated(self) -> bool:
        """Whether there are more rows than `rows` of the query allowed."""
        return self.statistics.truncated
