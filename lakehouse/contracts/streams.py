"""Finding streams: each is a folder with a contract, its SQL and its simulator. Adding one is adding a folder."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lakehouse.streams
from lakehouse.contracts.definition import Definition, define
from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import FILE, load_contract
from lakehouse.errors import ContractError, UnknownStreamError

Query = Literal["silver", "gold", "features", "alerts"]
QUERIES: tuple[Query, ...] = ("silver", "gold", "features", "alerts")


@dataclass(frozen=True)
class Stream:
    """One kind of event: its contract, and what its folder says of how it is enriched and summed."""

    name: str
    folder: Path
    contract: Contract = field(repr=False)

    def sql(self, query: Query) -> str:
        """The text of one of the stream's SQL files. Raises ContractError when it is missing."""
        path = self.folder / f"{query}.sql"
        try:
            return path.read_text(encoding="utf-8").strip().rstrip(";")
        except OSError as problem:
            raise ContractError(
                f"{path}: is not readable ({problem}); a stream needs {', '.join(QUERIES)} as .sql"
            ) from problem

    @cached_property
    def definition(self) -> Definition:
        """What bronze becomes silver by: the contract's rules and `silver.sql`."""
        return define(self.name, "silver", self.sql("silver"), self.contract)

    def definition_of(self, query: Query) -> Definition:
        """What the table that a SQL file makes is computed by."""
        return self.definition if query == "silver" else define(self.name, query, self.sql(query))

    @cached_property
    def simulate(self) -> Callable[..., Any]:
        """The stream's `simulate` function. Raises ContractError when the folder has none."""
        path = self.folder / "simulate.py"
        spec = importlib.util.spec_from_file_location(f"lakehouse_stream_{self.name}", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ContractError(f"{path}: is missing; it makes the stream's simulated events")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        simulate: Callable[..., Any] = module.simulate
        return simulate


def discover(further: Iterable[Path] = ()) -> dict[str, Stream]:
    """Every stream of the package and of the `further` folders, by name.

    Raises ContractError for a broken contract, and for a stream that is in two places.
    """
    streams: dict[str, Stream] = {}
    for parent in (Path(lakehouse.streams.__path__[0]), *further):
        if not parent.is_dir():
            raise ContractError(f"{parent}: is no folder; LAKEHOUSE_STREAMS lists folders of streams")
        for path in sorted(parent.glob(f"*/{FILE}")):
            contract = load_contract(path.parent)
            if contract.stream in streams:
                raise ContractError(
                    f"{path}: the stream {contract.stream} is also in {streams[contract.stream].folder}"
                )
            streams[contract.stream] = Stream(contract.stream, path.parent, contract)
    return streams


def known(streams: dict[str, Stream], name: str) -> Stream:
    """The stream of that name. Raises UnknownStreamError that lists the others."""
    if name not in streams:
        raise UnknownStreamError(f"There is no stream {name!r}; there are {', '.join(sorted(streams))}.")
    return streams[name]
