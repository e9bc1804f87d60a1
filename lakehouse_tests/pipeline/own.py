"""A stream for one test: a folder in a temporary directory, its tables, and short names for the steps of the pipeline."""

import asyncio
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import lakehouse.streams
from lakehouse.contracts.odcs import load_contract
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.landing.listing import list_days
from lakehouse.landing.writer import AsyncLandingWriter, Lines, land
from lakehouse.pipeline import bronze, gold, realtime, silver
from lakehouse.pipeline import unified_view as views
from lakehouse.pipeline.alerts import write_alerts
from lakehouse.pipeline.commits import WriteResult
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.ingest import IngestResult
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

SHIPPED = Path(lakehouse.streams.__path__[0])
EARLY, LATE = date(2010, 1, 1), date(2035, 1, 1)

_numbers = count()

Event = Mapping[str, Any] | str | bytes
Edit = Callable[[str], str]


def payment(key: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """Make a valid event for a copy of the stream `financial`."""
    event = {
        "event_id": key,
        "event_time": f"{at:%Y-%m-%dT%H:%M:%S}Z",
        "account_id": "a",
        "amount": "12.50",
        "currency": "EUR",
        "type": "payment",
        "status": "settled",
    }
    return event | fields


def noon(day: date) -> datetime:
    """Return noon of a day, UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def copy_stream(parent: Path, name: str, base: str = "financial", edit: Edit = lambda text: text) -> Path:
    """Copy a shipped stream's folder under another name; `edit` changes its contract."""
    folder = parent / name
    shutil.copytree(SHIPPED / base, folder, ignore=shutil.ignore_patterns("__pycache__"))
    contract = folder / "contract.odcs.yaml"
    text = re.sub(rf"^( *- |)name: {base}$", rf"\g<1>name: {name}", contract.read_text(), flags=re.MULTILINE)
    contract.write_text(edit(text))
    return folder


def threshold(share: float) -> Edit:
    """Make an edit that sets a contract's quality threshold."""
    return lambda text: text + f"\n  - property: qualityThreshold\n    value: {share}\n"


@dataclass(frozen=True)
class Own:
    """A stream that no other test uses, alone in its lake."""

    lake: Lake
    stream: Stream

    @property
    def name(self) -> str:
        return self.stream.name

    def land(self, events: Iterable[Event], at: datetime) -> str:
        """Land events, or raw lines, as one object that arrived at that time. Returns its key."""
        return land(self.lake.objects, self.name, _lines(events), now=at).key

    def drop(self, content: bytes, name: str = "file.csv") -> str:
        """Put a file under `incoming/`. Returns its key."""
        key = f"incoming/{self.name}/{name}"
        self.lake.objects.put(key, content)
        return key

    def bronze(self, *days: date, replace: bool = False) -> IngestResult[date]:
        """Run bronze on these days of arrival, by default on all days that have landing objects."""
        return bronze.ingest_days(self.lake, self.stream, days or self.arrived(), replace=replace, run_id="test")

    def arrived(self) -> list[date]:
        """List every day on which something has landed."""
        landed = list_days(self.lake.objects, self.name, EARLY, LATE)
        return [day for day, landings in landed.items() if landings]

    def clean(self, *days: date) -> silver.SilverResult:
        """Run silver for these event dates."""
        return silver.clean_days(self.lake, self.stream, days, run_id="test")

    def refresh_realtime(self, *hours: str, replace: bool = False) -> IngestResult[str]:
        """Run realtime for these hours."""
        return realtime.ingest_hours(self.lake, self.stream, hours, replace=replace, run_id="test")

    def gold(self, *days: date) -> WriteResult:
        """Run the daily aggregates."""
        return gold.write_daily(self.lake, self.stream, days)

    def below(self, *days: date) -> None:
        """Run every layer below silver."""
        self.gold(*days)
        gold.write_metrics(self.lake, days)
        write_features(self.lake, self.stream, days)
        write_alerts(self.lake, self.stream, days)

    def stale(self) -> list[date]:
        """List the days that would be computed again."""
        return days_to_refresh(self.lake, self.stream)

    def ask(self, select: str, **tables: str) -> list[tuple[Any, ...]]:
        """Run a SELECT in which `{silver}` and other layers in braces stand for this stream's tables."""
        scans = {
            layer: scan_sql(self.lake.tables.load(f"{layer}.{self.name}"))
            for layer in ("bronze", "silver", "quarantine", "realtime")
            if "{" + layer + "}" in select
        }
        scans |= {word: scan_sql(self.lake.tables.load(name)) for word, name in tables.items()}
        if "{unified}" in select:
            scans["unified"] = f"({views.view_sql(self.lake, f'serving.unified_{self.name}')})"
        with self.lake.engine.cursor() as cursor:
            return cursor.execute(select.format_map(scans)).fetchall()

    def counts(self, layer: str) -> Counter[date]:
        """Count a layer's rows by event date."""
        return Counter(dict(self.ask(f"select dt, count(*) from {{{layer}}} group by dt")))

    def snapshots(self, layer: str) -> int:
        """Count a table's snapshots."""
        return len(self.lake.tables.load(f"{layer}.{self.name}").metadata.snapshots)

    def quarantined(self) -> list[tuple[date, list[str]]]:
        """List the date and reasons of each row in quarantine."""
        return sorted(self.ask("select dt, reasons from {quarantine}"))


def land_together(events: Iterable[tuple[Own, Iterable[Event]]], at: datetime) -> list[str]:
    """Land events of several streams as one shared object that arrived at that time. Returns the keys of its sections."""
    events = [*events]
    writer = AsyncLandingWriter(events[0][0].lake.connection)
    parts = [Lines(own.name, [_lines(of_stream)]) for own, of_stream in events]
    return [landed.key for landed in asyncio.run(writer.land_shared(parts, at))]


def _lines(events: Iterable[Event]) -> bytes:
    lines = [
        event if isinstance(event, bytes) else (event if isinstance(event, str) else json.dumps(event)).encode()
        for event in events
    ]
    return b"\n".join(lines) + b"\n"


def assert_conserved(own: Own, cleaned: silver.SilverResult) -> None:
    """Assert that the ledgers add up and match the tables."""
    landed, kept, refused = (own.counts(layer) for layer in ("bronze", "silver", "quarantine"))
    for day, ledger in cleaned.ledgers.items():
        assert ledger.conserved, (day, ledger)
        assert (ledger.landed, ledger.silver, ledger.quarantined) == (landed[day], kept[day], refused[day]), day


def span(first: date, days: int) -> list[date]:
    """List `days` days from `first` on."""
    return [first + timedelta(days=n) for n in range(days)]


@pytest.fixture(scope="session")
def shared_lake(settings: Settings, connection: Connection) -> Iterator[Lake]:
    """A lake without streams, whose storage, catalog and engine the streams of tests share."""
    lake = Lake(settings, connection)
    lake.tables.ensure(table_specs([]))
    yield lake
    lake.engine.close()


@pytest.fixture
def make_stream(shared_lake: Lake, tmp_path: Path) -> Callable[..., Own]:
    """Make streams for one test: `base` is the shipped stream whose files are copied, `edit` changes its contract."""
    return partial(_make_stream, shared_lake, tmp_path)


@pytest.fixture(scope="module")
def make_shared_stream(shared_lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Own]:
    """Make streams that all tests of a module share."""
    return partial(_make_stream, shared_lake, tmp_path_factory.mktemp("streams"))


def _make_stream(
    shared: Lake, parent: Path, base: str = "financial", edit: Edit = lambda text: text, tables: bool = True
) -> Own:
    name = f"{base}_{next(_numbers)}"
    copy_stream(parent, name, base, edit)
    return open_stream(shared, parent, name, tables=tables)


def open_stream(shared: Lake, parent: Path, name: str, *, tables: bool = True) -> Own:
    """Open the stream of a folder under `parent`, alone in its lake, and create or evolve its tables."""
    settings = shared.settings.model_copy(update={"streams": (parent,)})
    lake = Lake(settings, shared.connection)
    stream = Stream(name, parent / name, load_contract(parent / name))
    lake.streams = {name: stream}
    lake.tables, lake.objects, lake.engine = shared.tables, shared.objects, shared.engine
    if tables:
        lake.tables.ensure(table_specs([stream]))
    return Own(lake, stream)
