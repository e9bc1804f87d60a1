"""Discover streams. Each is a folder with a contract, SQL files and a simulator; to add one, add a folder."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lakehouse.streams
from lakehouse.contracts.definition import Definition, define
from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.errors import ContractError, UnknownStreamError

Query = Literal["silver", "gold", "features", "alerts"]
SHIPPED = Path(lakehouse.streams.__path__[0])
"""The folder of the streams of the package."""

SIMULATOR_FILE = "simulate.py"

QUERIES: tuple[Query, ...] = ("silver", "gold", "features", "alerts")


@dataclass(frozen=True)
class Stream:
    """One kind of event: its contract, and the folder with the SQL that enriches and aggregates it."""

    name: str
    folder: Path
    contract: Contract = field(repr=False)

    @property
    def is_shipped(self) -> bool:
        """Whether the stream is one of the package's own."""
        return self.folder.parent == SHIPPED

    def sql(self, query: Query) -> str:
        """Read one of the stream's SQL files. Raises ContractError if it can't be read."""
        path = self.folder / f"{query}.sql"
        try:
            return path.read_text(encoding="utf-8").strip().rstrip(";")
        except OSError as error:
            needed = ", ".join(f"{name}.sql" for name in QUERIES)
            raise ContractError(f"{path}: can't be read ({error}). A stream needs {needed}.") from error

    @cached_property
    def definition(self) -> Definition:
        """The definition of silver: the contract's rules and `silver.sql`."""
        return define(self.name, "silver", self.sql("silver"), self.contract)

    def definition_of(self, query: Query) -> Definition:
        """Number what the table of a SQL file is computed by. Raises ContractError if the file can't be read."""
        return self.definition if query == "silver" else define(self.name, query, self.sql(query))

    @property
    def has_simulator(self) -> bool:
        """Whether the folder has a `simulate.py`, which it may lack."""
        return (self.folder / SIMULATOR_FILE).is_file()

    @cached_property
    def simulate(self) -> Callable[..., Any]:
        """The stream's function `simulate`. Raises ContractError if the folder has no `simulate.py`."""
        path = self.folder / SIMULATOR_FILE
        spec = importlib.util.spec_from_file_location(f"lakehouse_stream_{self.name}", path)
        if spec is None or spec.loader is None or not self.has_simulator:
            raise ContractError(f"{path}: is missing. It makes the stream's simulated events.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        simulate: Callable[..., Any] = module.simulate
        return simulate


def discover(folders: Iterable[Path] = ()) -> dict[str, Stream]:
    """Find the streams of the package and those under `folders`, by name.

    Raises ContractError if a folder does not exist, a contract is wrong, or a name is used twice.
    """
    streams: dict[str, Stream] = {}
    for parent in (SHIPPED, *folders):
        if not parent.is_dir():
            raise ContractError(f"{parent}: is not a folder. LAKEHOUSE_STREAMS lists folders that hold streams.")
        for path in sorted(parent.glob(f"*/{CONTRACT_FILE}")):
            contract = load_contract(path.parent)
            if contract.stream in streams:
                raise ContractError(
                    f"{path}: the stream {contract.stream} is also in {streams[contract.stream].folder}"
                )
            streams[contract.stream] = Stream(contract.stream, path.parent, contract)
    return streams


def find_stream(streams: dict[str, Stream], name: str) -> Stream:
    """Get a stream by name. Raises UnknownStreamError, which lists the streams there are."""
    if name not in streams:
        raise UnknownStreamError(f"There is no stream {name!r}; there are {', '.join(sorted(streams))}.")
    return streams[name]
