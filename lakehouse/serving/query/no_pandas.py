"""Keep a process that runs queries from importing pandas, which takes seconds and is of no use there."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _WithoutPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("This process does without pandas.", name=fullname)
        return None


def block_pandas() -> None:
    """Let imports of pandas fail: DuckDB tries one at the first parameter, and Arrow at the first time with a zone.

    None in `sys.modules` would not do, because Arrow takes that for pandas itself.
    """
    sys.meta_path.insert(0, _WithoutPandas())
