"""Names for Arrow's types that a type checker takes, and columns in one piece. Nothing here knows bronze."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = pa.Array[Any]
    Chunked = pa.ChunkedArray[Any]
    Scalar = pa.Scalar[Any]
else:
    Array, Chunked, Scalar = pa.Array, pa.ChunkedArray, pa.Scalar

TEXT = pa.string()


def whole(column: Chunked) -> Array:
    """The column as one array, copied only where it has to be."""
    if column.num_chunks == 1:
        return cast("Array", column.chunk(0))
    joined: Any = pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])
    return cast("Array", joined)


def texts(values: Sequence[str | None]) -> Array:
    """Texts as an array of text, even if there is none."""
    return pa.array(values, TEXT)


def integers(values: NDArray[Any], kind: pa.DataType) -> Any:
    """Numbers as an array of that type."""
    return pa.array(values, kind)


def places(mask: Array) -> list[int]:
    """Where the mask is true."""
    found: list[int] = pc.indices_nonzero(mask).to_numpy().tolist()
    return found


def no_texts(count: int) -> Array:
    """So many nulls."""
    return pa.nulls(count, TEXT)
