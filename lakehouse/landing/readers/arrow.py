"""Arrow types spelled so that a type checker accepts them, and small conversions. Nothing here knows bronze."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

if TYPE_CHECKING:
    Array = pa.Array[Any]
    ChunkedArray = pa.ChunkedArray[Any]
    Scalar = pa.Scalar[Any]
else:
    Array, ChunkedArray, Scalar = pa.Array, pa.ChunkedArray, pa.Scalar


def one_array(column: ChunkedArray) -> Array:
    """Join a column's chunks. Copies only if there are several."""
    if column.num_chunks == 1:
        return cast("Array", column.chunk(0))
    joined: Any = pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])
    return cast("Array", joined)


def text_array(values: Sequence[str | None]) -> Array:
    """Make an array of strings, also from no values or only nulls."""
    return pa.array(values, pa.string())


def null_text(count: int) -> Array:
    """Make an array of `count` null strings."""
    return pa.nulls(count, pa.string())


def integer_array(values: NDArray[Any], type_: pa.DataType) -> Any:
    """Make an array of integers of the given type."""
    return pa.array(values, type_)


def true_indices(mask: Array) -> list[int]:
    """List the indices at which the mask is true."""
    indices: list[int] = pc.indices_nonzero(mask).to_numpy().tolist()
    return indices
