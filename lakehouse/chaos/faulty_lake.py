"""A small lakehouse whose processes can be killed, behind a network that can fail. See `faults` for the rounds."""

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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlparse
from weakref import WeakKeyDictionary

import dagster as dg
import psutil

from lakehouse.assets.partitions import exact_tags
from lakehouse.auditing.audit import audit
from lakehouse.automation.jobs import REFRESH, stream_asset_keys
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.chaos.maintenance_tasks import maintain
from lakehouse.chaos.sender import STREAM, Events, Sender
from lakehouse.chaos.unreliable_network import NetworkFaults, unreliable
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline import bronze, realtime, silver
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.processes.child import kill
from lakehouse.processes.ports import free_port
from lakehouse.runtime.instance import dagster_home, lane_tags, open_instance
from lakehouse.runtime.orphaned_runs import ACTIVE_STATUSES, is_active
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings, get_settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import Connection

WORKS = ("realtime", "bronze", "silver", "run")
SETTLING_STEPS = ("bronze", "realtime", "run")

EXIT_REPORTED = 3
"""Exit code of a worker that printed one line about what failed."""

TIMEOUT_SECONDS = 180.0
"""Seconds after which a process counts as hung."""

SILENCE_SECONDS = 1
"""Seconds that the lakehouse waits for storage that does not answer."""

MULTI_STREAM_ASSETS = {dg.AssetKey(["gold", "daily_metrics"]), dg.AssetKey(["serving", f"{STREAM}_dashboard"])}
"""Assets made from all streams. They are left out, because there is one stream here."""


@dataclass(slots=True)
class Count:
    """Everything that is wrong, one entry each."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return True if nothing is wrong."""
        return not (self.lost or self.twice or self.wrong)


class FaultyLake:
    """A lakehouse of one stream whose processes reach storage through an unreliable network."""

    def __init__(self, faulty: "FaultyStorage") -> None:
        self.home, self.network = faulty.home, faulty.network
        self.embedded = Settings(home=self.home, storage="embedded")
        homes = {"LAKEHOUSE_HOME": str(self.home), "DAGSTER_HOME": str(dagster_home(self.embedded))}
        self.variables = {**faulty.variables, **homes}
        with environment(self.variables):
            self.settings = Settings()
        self.direct = alone(Lake(self.embedded, faulty.connection))
        self.stream = self.direct.stream(STREAM)
        self.events = Events()
        self.killed: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        """Seconds of each kind of work, the last time it was not killed."""
        self._started: WeakKeyDictionary[BaseProcess, float] = WeakKeyDictionary()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["lakehouse.chaos.preload", "lakehouse.chaos.faulty_lake"])
        with environment(self.variables):  # start it now, so that it loads the definitions while the HTTP server starts
            forkserver.ensure_running()

    def start(self, work: str, *arguments: Any) -> BaseProcess:
        """Start some work in a process of its own."""
        process = self._context.Process(target=_worker, args=(work, self.variables, *arguments), name=work)
        process.start()
        self._started[process] = time.monotonic()
        return process

    def join(self, processes: Sequence[BaseProcess]) -> None:
        """Wait for the processes. Raises AssertionError if one hangs or fails without a message."""
        self.wait(processes, TIMEOUT_SECONDS)
        for process in processes:
            if process.exitcode is None:
                process.kill()
                raise AssertionError(f"{process.name} did not end within {TIMEOUT_SECONDS:.0f} s")
            if process.exitcode not in (0, EXIT_REPORTED, -signal.SIGKILL):
                raise AssertionError(f"{process.name} ended with {process.exitcode}")
            self.outcomes[{0: "done", EXIT_REPORTED: "reported an error"}.get(process.exitcode, "killed")] += 1

    def wait(self, processes: Sequence[BaseProcess], seconds: float) -> None:
        """Wait for the processes, for `seconds` at most, and record how long each took."""
        deadline = time.monotonic() + seconds
        while running := [process for process in processes if process.exitcode is None]:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            connection.wait([process.sentinel for process in running], left)
            for process in running:
                if process.exitcode == 0:
                    self.seconds[process.name] = time.monotonic() - self._started[process]

    def send(self, rng: random.Random) -> Sender:
        """Start a client that posts events to the HTTP server."""
        sender = Sender(self.events, rng, self._url)
        sender.start()
        return sender

    def _url(self) -> str | None:
        service = http_server.running(self.settings)
        return service.url if service else None

    def kill(self, process: BaseProcess) -> None:
        """Kill -9 a process, unless it has ended."""
        if process.exitcode is None:
            process.kill()
            self.killed[process.name] += 1

    def kill_http_worker(self) -> None:
        """Kill -9 an HTTP worker; the server replaces it."""
        for worker in http_workers(self.settings)[:1]:
            self._kill("http worker", worker)

    def kill_http(self) -> None:
        """Kill -9 the HTTP server and all of its workers at once, and start it again as `up` does."""
        service = http_server.running(self.settings)
        family = [psutil.Process(service.pid), *http_workers(self.settings)] if service else []
        kill(family)
        self.killed["http server"] += bool(family)
        self.serve()

    def serve(self) -> None:
        """Start the HTTP server unless it runs."""
        with environment(self.variables):
            http_server.start(self.settings)

    def kill_storage(self) -> None:
        """Kill -9 storage, and start it again as `up` does."""
        if pid := storage.status(self.embedded).pid:
            self._kill("storage", psutil.Process(pid))
        storage.start(self.embedded)

    def _kill(self, kind: str, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            self.killed[kind] += 1

    def settle(self) -> None:
        """Bring every layer up to date over a good network. Raises AssertionError if that fails."""
        self.network.share = 0.0
        process = self.start("settling", days())
        self.join([process])
        if process.exitcode != 0:
            raise AssertionError("a layer cannot be computed over a good network")
        with open_instance(self.embedded) as history:
            left = [run for run in history.get_runs(dg.RunsFilter(statuses=ACTIVE_STATUSES)) if is_active(history, run)]
        if left:
            raise AssertionError(f"{len(left)} runs of killed processes are still marked as active")

    def count(self) -> Count:
        """Compare the sent events with the tables, and audit every layer."""
        return count(self.direct, self.stream, self.events, ignored_check="daily_metrics")


def count(lake: Lake, stream: Stream, events: Events, *, ignored_check: str = " ") -> Count:
    """Compare the sent events with the tables, and audit every layer, except checks that start with `ignored_check`."""

    def ask(select: str, table: str) -> Counter[str]:
        with lake.engine.cursor() as cursor:
            rows = cursor.execute(f"{select} from {scan_sql(lake.tables.load(f'{table}.{stream.name}'))}").fetchall()
        return Counter(key for (key,) in rows)

    kept = ask("select event_id", "silver")
    rejected = ask("select json_extract_string(raw, '$.event_id')", "quarantine")
    result = Count(
        lost=sorted(events.acknowledged - set(kept) - set(rejected)),
        twice=sorted(key for key, times in (kept + rejected).items() if times > 1),
        wrong=[
            str(finding) for finding in audit(lake, [stream]).findings if not finding.check.startswith(ignored_check)
        ],
    )
    valid = {key for key, good in events.sent.items() if good}
    if set(kept) - valid or set(rejected) - (set(events.sent) - valid):
        result.wrong.append("silver or quarantine holds events that do not belong there")
    return result


@contextmanager
def faulty_lake(seed: int) -> Iterator[FaultyLake]:
    """Yield a lakehouse in a temporary folder, with its storage behind a network that is good to begin with."""
    with faulty_storage(seed) as faulty, ExitStack() as stack:
        lake = FaultyLake(faulty)
        lake.direct.tables.ensure(table_specs([lake.stream]))
        stack.callback(lake.direct.engine.close)
        stack.callback(http_server.stop, lake.settings)
        lake.serve()
        yield lake


@dataclass(frozen=True, slots=True)
class FaultyStorage:
    """A home with running storage behind an unreliable network."""

    home: Path
    connection: Connection
    """The direct connection, past the network."""
    network: NetworkFaults
    variables: Mapping[str, str]
    """Environment of a process that reaches the storage through the network."""


@contextmanager
def faulty_storage(seed: int) -> Iterator[FaultyStorage]:
    """Run storage in a temporary folder, behind a network that is good to begin with."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-faults-", ignore_cleanup_errors=True) as folder:
        embedded, network = Settings(home=Path(folder), storage="embedded"), NetworkFaults()
        reached = storage.start(embedded)
        try:
            with _reachable(reached, network, seed) as variables:
                yield FaultyStorage(Path(folder), reached, network, variables)
        finally:
            storage.stop(embedded)


@contextmanager
def _reachable(reached: Connection, network: NetworkFaults, seed: int) -> Iterator[dict[str, str]]:
    """Yield the environment of a process that reaches this storage over a network with these faults."""
    endpoint, catalog = urlparse(str(reached.endpoint)), urlparse(reached.catalog["uri"])
    with (
        unreliable(int(endpoint.port or 0), network, seed) as s3,
        unreliable(int(catalog.port or 0), network, seed + 1) as tables,
    ):
        yield {
            "LAKEHOUSE_STORAGE": "external",
            "LAKEHOUSE_STORAGE_SECONDS": str(SILENCE_SECONDS),
            "LAKEHOUSE_BUCKET": reached.bucket,
            "LAKEHOUSE_S3_ENDPOINT": f"http://127.0.0.1:{s3}",
            "LAKEHOUSE_S3_REGION": reached.region,
            "LAKEHOUSE_S3_ACCESS_KEY_ID": str(reached.access_key_id),
            "LAKEHOUSE_S3_SECRET_ACCESS_KEY": str(reached.secret_access_key),
            "LAKEHOUSE_CATALOG": "rest",
            "LAKEHOUSE_CATALOG_URI": f"http://127.0.0.1:{tables}",
            "LAKEHOUSE_CATALOG_WAREHOUSE": reached.catalog["warehouse"],
            "LAKEHOUSE_CATALOG_PREFIX": reached.catalog["prefix"],
            "LAKEHOUSE_CATALOG_CREDENTIAL": reached.catalog["credential"],
            "LAKEHOUSE_HTTP_PORT": str(free_port()),
            "LAKEHOUSE_HTTP_WORKERS": "1",
            "LAKEHOUSE_HTTP_FLUSH_MS": "50",
        }


def http_workers(settings: Settings) -> list[psutil.Process]:
    """Return the HTTP server's worker processes."""
    service = http_server.running(settings)
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(service.pid).children(recursive=True) if service else []
        return [child for child in children if not any("resource_tracker" in word for word in child.cmdline())]
    return []


def _worker(work: str, variables: Mapping[str, str], *arguments: Any) -> None:
    """Run some work in this process. Exit with 0, with EXIT_REPORTED after one line, or with 1 after a traceback."""
    os.environ.update(variables)
    get_settings.cache_clear()
    try:
        lake = alone(Lake(get_settings()))
        for step in SETTLING_STEPS if work == "settling" else [work]:
            do(lake, lake.stream(STREAM), step, *arguments)
    except LakehouseError as error:
        print(f"{work}: {error}", file=sys.stderr)
        os._exit(EXIT_REPORTED)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def do(
    lake: Lake, stream: Stream, work: str, dates: Sequence[date], subject_key: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Bring a layer up to date, run everything below bronze through Dagster, or run a maintenance task."""
    match work:
        case "realtime":
            realtime.ingest_hours(lake, stream, _hours())
        case "bronze":
            bronze.ingest_days(lake, stream, dates)
        case "silver":
            silver.clean_days(lake, stream, dates)
        case "run":
            _refresh(lake, stream, dates)
        case _:
            maintain(lake, stream, work, partial(_refresh, lake, stream, dates), subject_key)


def _refresh(lake: Lake, stream: Stream, dates: Sequence[date]) -> None:
    keys = [key for key in stream_asset_keys(lake, stream) if key not in MULTI_STREAM_ASSETS]
    raise_on_failure(Runner(lake).run(REFRESH, {**exact_tags(dates), **lane_tags(REFRESH, stream.name)}, keys))


def alone(lake: Lake) -> Lake:
    """Return the lake with one of its streams."""
    lake.streams = {STREAM: lake.stream(STREAM)}
    return lake


def days() -> list[date]:
    """Return the event dates of all events, in order."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in (2, 1, 0)]


def _hours() -> list[str]:
    now = datetime.now(UTC)
    return [hour_partition(now - timedelta(hours=back)) for back in (1, 0)]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables during the block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
