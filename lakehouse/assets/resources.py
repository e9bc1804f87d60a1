"""What assets are given: the lake, opened once a process."""

from functools import lru_cache

import dagster as dg

from lakehouse.layers.lake import Lake
from lakehouse.settings import get_settings


@lru_cache(maxsize=1)
def _lake() -> Lake:
    return Lake(get_settings())


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its parameter is of use to subclasses only
    """The lake that the settings name; it is opened at its first use and shared by all runs of a process."""

    @property
    def lake(self) -> Lake:
        """The lake. Raises StorageUnavailableError when its storage is not up."""
        return _lake()
