"""Discover streams. Each is a folder with a contract, and perhaps SQL files and a simulator; to add one, add a folder."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lakehouse.streams
from lakehouse.contracts.default_sql import Query, default_sql
from lakehouse.contracts.definition import Definition, define
from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.contracts.synthetic import synthesize
from lakehouse.errors import ContractError, UnknownStreamError

SHIPPED = Path(lakehouse.streams.__path__[0])
"""The folder of the streams of the package."""

SIMULATOR_FILE = "simulate.py"

DETECTOR_VERSION = 1
"""The version of the detector of anomalies. With another one, days are computed again."""


@dataclass(frozen=True)
class Stream:
    """One kind of event: its contract, and the folder with the SQL that enriches and aggregates it."""

    name: str
    folder: Path
    contract: Contract = field(repr=False)
    texts: Mapping[Query, str] = field(default_factory=dict, repr=False, compare=False)
    """SQL that is used in place of files and defaults, on machines that lack the folder."""

    def packed(self, *queries: Query) -> "Stream":
        """Return the stream with the text of these SQL files, for machines that lack its folder."""
        return Stream(self.name, self.folder, self.contract, {query: self.sql(query) for query in queries})

    @property
    def is_shipped(self) -> bool:
        """Whether the stream is one of the package's own."""
        return self.folder.parent == SHIPPED

    def sql(self, query: Query) -> str:
        """Read one of the stream's SQL files, or generate its default from the contract if there is none.

        Raises ContractError if the file can't be read.
        """
        if query in self.texts:
            return self.texts[query]
        path = self.folder / f"{query}.sql"
        try:
            return path.read_text(encoding="utf-8").strip().rstrip(";")
        except FileNotFoundError:
            return default_sql(self.contract, query)
        except (OSError, UnicodeDecodeError) as error:
            raise ContractError(f"{path}: can't be read ({error}).") from error

    @property
    def has_features(self) -> bool:
        """Whether the folder has a `features.sql`. Without it, the table of features stays empty."""
        return (self.folder / "features.sql").is_file()

    @property
    def has_alerts(self) -> bool:
        """Whether the folder has an `alerts.sql`. Without it, the table of alerts stays empty."""
        return (self.folder / "alerts.sql").is_file()

    @cached_property
    def definition(self) -> Definition:
        """The definition of silver: the contract's rules and `silver.sql`."""
        return define(self.name, "silver", self.sql("silver"), self.contract)

    def definition_of(self, query: Query) -> Definition:
        """Number what the table of a SQL file is computed by. Raises ContractError if the file can't be read."""
        return self.definition if query == "silver" else define(self.name, query, self.sql(query))

    @cached_property
    def anomaly_definition(self) -> Definition:
        """The definition of the tables of anomalies: the contract's rule of anomalies and the version of the detector."""
        return define(self.name, "anomalies", f"{self.contract.anomaly} detector {DETECTOR_VERSION}")

    @cached_property
    def simulate(self) -> Callable[..., Any]:
        """The function `simulate` of the folder's `simulate.py`. Without the file, events are drawn from the contract alone."""
        path = self.folder / SIMULATOR_FILE
        if not path.is_file():
            return partial(synthesize, self.contract)
        spec = importlib.util.spec_from_file_location(f"lakehouse_stream_{self.name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        simulate: Callable[..., Any] = module.simulate
        return simulate


def revision(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return where folders of streams are. Those of a running lakehouse move with each change; see `accepted_streams`."""
    return tuple(folder.resolve() for folder in folders)


def discover(folders: Iterable[Path] = (), *, examples: bool = True) -> dict[str, Stream]:
    """Find the streams under `folders`, and the package's unless without its `examples`, by name.

    Raises ContractError if a folder does not exist, a contract is wrong, or a name is used twice.
    """
    streams: dict[str, Stream] = {}
    for parent in (*((SHIPPED,) if examples else ()), *revision(folders)):
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
