"""`bench faults`: a small lakehouse under load whose processes are killed and whose network fails; then what is left is counted.

Every event that was acknowledged is in silver or in quarantine, once, whatever was killed when. Each round draws from its
own seed, so that one that failed can be drawn again.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import dagster as dg
from pyiceberg.expressions import AlwaysTrue

from lakehouse.assets.partitions import exact_tags
from lakehouse.automation.instance import dagster_home, instance, lane
from lakehouse.automation.jobs import REFRESH, stream_keys
from lakehouse.automation.leftovers import UNDER_WAY, is_under_way
from lakehouse.automation.runs import Runner, raise_for
from lakehouse.bench.measuring import Figure, figure
from lakehouse.bench.unreliable import Weather, unreliable
from lakehouse.contracts.streams import Stream
from lakehouse.engines.duckdb import scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.ingest.landing import land, list_days
from lakehouse.layers import bronze, realtime, silver
from lakehouse.layers.lake import Lake, table_specs
from lakehouse.layers.views import view_sql
from lakehouse.settings import Settings, get_settings
from lakehouse.storage import server as storage
from lakehouse.storage.commit import files_of
from lakehouse.storage.connection import Connection

STREAM = "financial"
EVENTS = 25
"""Of one object."""

BATCHES = 4

INVALID = 0.02
REPEATED = 0.1
WORKERS = 3
WORKS = ("realtime", "bronze", "silver", "run")
KILLED_WITHIN = 1.5
"""Seconds; about as long as what is killed takes."""

TELLING = 3
"""How a worker ends that said in one line what is wrong."""

PATIENCE = 180.0
"""Seconds after which somebody waits for ever."""

NOT_ALONE = {dg.AssetKey(["gold", "daily_metrics"]), dg.AssetKey(["serving", f"{STREAM}_dashboard"])}
"""What is made from all streams; here is one."""


@dataclass(slots=True)
class Events:
    """What was sent: all of it by key, whether it is valid, and in which files it says which batches were acknowledged."""

    sent: dict[str, bool] = field(default_factory=dict)
    records: dict[Path, list[list[str]]] = field(default_factory=dict)

    @property
    def acknowledged(self) -> set[str]:
        """The keys that their sender knows to be stored."""
        return {
            key
            for record, batches in self.records.items()
            if record.exists()
            for number in record.read_text().split()
            for key in batches[int(number)]
        }


@dataclass(slots=True)
class Audit:
    """What is wrong, an entry each; nothing is right."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.twice or self.differing)


class FaultyLake:
    """A lakehouse of one stream whose processes reach storage through an unreliable network."""

    def __init__(self, home: Path, weather: Weather, connection: Connection, faulty: Mapping[str, str]) -> None:
        self.home, self.weather = home, weather
        self.embedded = Settings(home=home, storage="embedded")
        self.variables = {**faulty, "LAKEHOUSE_HOME": str(home), "DAGSTER_HOME": str(dagster_home(self.embedded))}
        with _environment(self.variables):
            self.settings = Settings()
        self.calm = _alone(Lake(self.embedded, connection))
        self.stream = self.calm.stream(STREAM)
        self.events = Events()
        self.killed: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["lakehouse.bench.forking", "lakehouse.bench.faults"])

    def start(self, work: str, *what: Any) -> BaseProcess:
        """Do some work in a process of its own."""
        process = self._context.Process(target=_worker, args=(work, self.variables, *what), name=work)
        with _environment(self.variables):  # with the first one the fork server starts, which loads the definitions
            process.start()
        return process

    def join(self, processes: Sequence[BaseProcess]) -> None:
        """Wait for their ends. Raises AssertionError for one that takes for ever or fails without a word."""
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                raise AssertionError(f"{process.name} did not end within {PATIENCE:.0f} s")
            if process.exitcode not in (0, TELLING, -signal.SIGKILL):
                raise AssertionError(f"{process.name} ended with {process.exitcode}")
            self.told[{0: "done", TELLING: "said why not"}.get(process.exitcode, "killed")] += 1

    def send(self, chance: random.Random) -> BaseProcess:
        """Land some batches of events in a process of its own, which writes down what was acknowledged."""
        batches = []
        for _ in range(BATCHES):
            known = sorted(self.events.sent)
            keys = {
                chance.choice(known) if known and chance.random() < REPEATED else f"{chance.getrandbits(64):016x}"
                for _ in range(EVENTS)
            }
            for key in sorted(keys):
                self.events.sent.setdefault(key, chance.random() >= INVALID)
            batches.append(sorted(keys))
        lines = [[json.dumps(_event(key, self.events.sent[key])) for key in batch] for batch in batches]
        record = self.home / f"acknowledged-{chance.getrandbits(32):08x}"
        self.events.records[record] = batches
        return self.start("ingest", lines, str(record))

    def kill_storage(self) -> None:
        """Kill -9, and start again as `up` does."""
        self.killed["storage"] += 1
        if pid := storage.status(self.embedded).pid:
            os.kill(pid, signal.SIGKILL)
        storage.start(self.embedded)

    def settle(self) -> None:
        """With a good network, bring every layer up to date."""
        self.weather.share = 0.0
        for work in ("bronze", "realtime", "run"):
            process = self.start(work, days())
            self.join([process])
            if process.exitcode != 0:
                raise AssertionError(f"{work} fails although nothing is wrong any more")
        with instance(self.embedded) as history:
            left = [run for run in history.get_runs(dg.RunsFilter(statuses=UNDER_WAY)) if is_under_way(history, run)]
        if left:
            raise AssertionError(f"{len(left)} runs of killed processes are said to go on")

    def audit(self) -> Audit:
        """Compare what was sent with what every layer holds, row by row."""
        found = Audit()
        kept = Counter(key for (key,) in self.ask("select event_id from {silver}"))
        refused = Counter(key for (key,) in self.ask("select json_extract_string(raw, '$.event_id') from {quarantine}"))
        found.twice = sorted(key for key, times in (kept + refused).items() if times > 1)
        found.lost = sorted(self.events.acknowledged - set(kept) - set(refused))
        valid = {key for key, good in self.events.sent.items() if good}
        if set(kept) - valid or set(refused) - (set(self.events.sent) - valid):
            found.differing.append("silver or quarantine holds what it should not")
        landed = {one.key for day in list_days(self.calm.objects, STREAM, *_span()).values() for one in day}
        rows = self.ask("select _object, _row, count(*) from {bronze} group by all")
        found.twice += [f"bronze {key} {row}" for key, row, times in rows if times > 1]
        if {key for key, _, _ in rows} != landed:
            found.differing.append("bronze does not hold the landing objects")
        unified = view_sql(self.calm, f"serving.unified_{STREAM}")
        seen = Counter(key for (key,) in self.ask(f"select event_id from ({unified})"))
        if seen != Counter(dict.fromkeys(kept, 1)):
            found.differing.append("unified is not silver and realtime, merged by key")
        for layer in ("bronze", "silver", "realtime", "quarantine"):
            table = self.calm.tables.load(f"{layer}.{STREAM}")
            paths = [one.file_path for one in files_of(table, AlwaysTrue())]
            if len(paths) != len(set(paths)):
                found.differing.append(f"{layer} names a file twice")
        return found

    def ask(self, select: str) -> list[tuple[Any, ...]]:
        """Rows of a SELECT in which {silver} and the like stand for tables."""
        layers = ("bronze", "silver", "quarantine", "realtime")
        scans = {
            layer: scan_sql(self.calm.tables.load(f"{layer}.{STREAM}")) for layer in layers if f"{{{layer}}}" in select
        }
        for layer, scan in scans.items():
            select = select.replace(f"{{{layer}}}", scan)
        with self.calm.engine.cursor() as cursor:
            return cursor.execute(select).fetchall()


def measure(rounds: int, seed: int) -> Iterator[Figure]:
    """The figures after so many rounds. Raises AssertionError naming the round and its seed for the first that is wrong."""
    started = time.monotonic()
    with faulty_lake(seed) as lake:
        for number in range(rounds):
            checked(lake, seed + number)
            if sys.stderr.isatty():
                print(f"round {number + 1} of {rounds}, {sum(lake.killed.values())} kills", file=sys.stderr)
        met = lake.weather.met
        yield figure("faults", "rounds", rounds, "", seed=seed, seconds=round(time.monotonic() - started))
        yield figure("faults", "kills", sum(lake.killed.values()), "", **lake.killed)
        yield figure("faults", "requests that met a fault", met.total() - met["none"], "", **met)
        yield figure("faults", "events acknowledged", len(lake.events.acknowledged), "", work=dict(lake.told))
        yield figure("faults", "lost", 0, "", 0)
        yield figure("faults", "twice", 0, "", 0)


def checked(lake: FaultyLake, seed: int) -> None:
    """One round, then rest and a count. Raises AssertionError when something is wrong."""
    try:
        play(lake, random.Random(seed))  # noqa: S311
        lake.settle()
        audit = lake.audit()
    except AssertionError as problem:
        raise AssertionError(f"round of seed {seed}: {problem}") from problem
    if not audit.passed:
        raise AssertionError(f"round of seed {seed}: {audit}")


def play(lake: FaultyLake, chance: random.Random, workers: int = WORKERS) -> None:
    """One round of load, faults and kills. Raises AssertionError for who waits for ever or fails without a word."""
    lake.weather.share = chance.choice([0.0, 0.05, 0.15, 0.3])
    works = [lake.send(chance), *(lake.start(chance.choice(WORKS), days()) for _ in range(workers))]
    if chance.random() < 0.2:
        lake.kill_storage()
    for work in works:
        if chance.random() < 0.5:
            work.join(chance.uniform(0.0, KILLED_WITHIN))
            if work.exitcode is None:
                work.kill()
                lake.killed[work.name] += 1
    lake.join(works)


@contextmanager
def faulty_lake(seed: int) -> Iterator[FaultyLake]:
    """A lakehouse in a temporary folder, its storage behind an unreliable network that is good to begin with."""
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="lakehouse-faults-", ignore_cleanup_errors=True)
        )
        embedded = Settings(home=Path(folder), storage="embedded")
        reached = storage.start(embedded)
        stack.callback(storage.stop, embedded)
        weather = Weather()
        endpoint, catalog = urlparse(str(reached.endpoint)), urlparse(reached.catalog["uri"])
        ports = [
            stack.enter_context(unreliable(int(url.port or 0), weather, seed + n))
            for n, url in enumerate((endpoint, catalog))
        ]
        lake = FaultyLake(Path(folder), weather, reached, _external(reached, *ports))
        lake.calm.tables.ensure(table_specs([lake.stream]))
        stack.callback(lake.calm.engine.close)
        yield lake


def _worker(work: str, variables: Mapping[str, str], *what: Any) -> None:
    """A process that does some work; it ends well, or with one line, or with a traceback that should not be."""
    os.environ.update(variables)
    get_settings.cache_clear()
    try:
        lake = _alone(Lake(get_settings()))
        if work == "ingest":
            _ingest(lake, *what)
        else:
            do(lake, lake.stream(STREAM), work, *what)
    except LakehouseError as problem:
        print(f"{work}: {problem}", file=sys.stderr)
        os._exit(TELLING)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ingest(lake: Lake, batches: Sequence[Sequence[str]], record: str) -> None:
    with open(record, "a", buffering=1) as acknowledged:
        for number, lines in enumerate(batches):
            land(lake.objects, STREAM, "\n".join(lines).encode() + b"\n")
            acknowledged.write(f"{number}\n")


def do(lake: Lake, stream: Stream, work: str, wanted: Sequence[date]) -> None:
    """Bring a layer up to date, or by a Dagster run all that is below bronze."""
    match work:
        case "realtime":
            realtime.refresh_hours(lake, stream, _hours())
        case "bronze":
            bronze.land_days(lake, stream, wanted)
        case "silver":
            silver.clean_days(lake, stream, wanted)
        case "run":
            keys = [key for key in stream_keys(stream) if key not in NOT_ALONE]
            raise_for(Runner(lake).run(REFRESH, {**exact_tags(wanted), **lane(REFRESH, stream.name)}, keys))
        case _:
            raise ValueError(work)


def _alone(lake: Lake) -> Lake:
    lake.streams = {STREAM: lake.stream(STREAM)}
    return lake


def _event(key: str, valid: bool) -> dict[str, Any]:
    """An event whose fields follow from its key, so that it is the same whenever it is sent."""
    ago = timedelta(days=int(key[0], 16) % 2, seconds=int(key[1:4], 16))
    at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - ago
    return {
        "event_id": key,
        "event_time": at.isoformat(),
        "account_id": f"a{int(key[4:6], 16)}",
        "amount": f"{int(key[6:10], 16) + 1}.25" if valid else "-1",
        "currency": "EUR",
        "type": "payment",
        "status": "settled",
    }


def days() -> list[date]:
    """The days that events are of, in order."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in (2, 1, 0)]


def _span() -> tuple[date, date]:
    wanted = days()
    return wanted[0], wanted[-1]


def _hours() -> list[str]:
    now = datetime.now(UTC)
    return [f"{now - timedelta(hours=back):%Y-%m-%d-%H}:00" for back in (1, 0)]


def _external(reached: Connection, s3: int, catalog: int) -> dict[str, str]:
    """The variables of a process that reaches this storage on other ports."""
    return {
        "LAKEHOUSE_STORAGE": "external",
        "LAKEHOUSE_BUCKET": reached.bucket,
        "LAKEHOUSE_S3_ENDPOINT": f"http://127.0.0.1:{s3}",
        "LAKEHOUSE_S3_REGION": reached.region,
        "LAKEHOUSE_S3_ACCESS_KEY_ID": str(reached.access_key_id),
        "LAKEHOUSE_S3_SECRET_ACCESS_KEY": str(reached.secret_access_key),
        "LAKEHOUSE_CATALOG": "rest",
        "LAKEHOUSE_CATALOG_URI": f"http://127.0.0.1:{catalog}",
        "LAKEHOUSE_CATALOG_WAREHOUSE": reached.catalog["warehouse"],
        "LAKEHOUSE_CATALOG_PREFIX": reached.catalog["prefix"],
        "LAKEHOUSE_CATALOG_CREDENTIAL": reached.catalog["credential"],
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
