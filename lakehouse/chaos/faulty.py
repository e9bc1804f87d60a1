"""A small lakehouse whose processes can be killed, behind a network that can fail. What happens to it is `faults`'."""

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
from lakehouse.audit.audit import audit
from lakehouse.automation.jobs import REFRESH, stream_asset_keys
from lakehouse.automation.runs import Runner, raise_on_failure
from lakehouse.bench.maintaining import maintain
from lakehouse.bench.sending import STREAM, Events, Sender
from lakehouse.chaos.unreliable import Weather, unreliable
from lakehouse.contracts.streams import Stream
from lakehouse.engine.connection import scan_sql
from lakehouse.errors import LakehouseError
from lakehouse.landing.keys import hour_partition
from lakehouse.pipeline import bronze, realtime, silver
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.processes.child import kill
from lakehouse.runtime.instance import dagster_home, lane_tags, open_instance
from lakehouse.runtime.orphaned_runs import ACTIVE_STATUSES, is_active
from lakehouse.runtime.supervisor import free_port
from lakehouse.settings import Settings, get_settings
from lakehouse.sources.http import server as http
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import Connection

WORKS = ("realtime", "bronze", "silver", "run")
UP_TO_DATE = ("bronze", "realtime", "run")

TELLING = 3
"""How a worker ends that said in one line what is wrong."""

PATIENCE = 180.0
"""Seconds after which somebody waits for ever."""

SILENCE_SECONDS = 1
"""For which the lakehouse waits for storage that says nothing."""

NOT_ALONE = {dg.AssetKey(["gold", "daily_metrics"]), dg.AssetKey(["serving", f"{STREAM}_dashboard"])}
"""What is made from all streams; here is one."""


@dataclass(slots=True)
class Count:
    """What is wrong, an entry each; nothing is right."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.twice or self.wrong)


class FaultyLake:
    """A lakehouse of one stream whose processes reach storage through an unreliable network."""

    def __init__(self, place: "Place") -> None:
        self.home, self.weather = place.home, place.weather
        self.embedded = Settings(home=self.home, storage="embedded")
        homes = {"LAKEHOUSE_HOME": str(self.home), "DAGSTER_HOME": str(dagster_home(self.embedded))}
        self.variables = {**place.variables, **homes}
        with environment(self.variables):
            self.settings = Settings()
        self.calm = _alone(Lake(self.embedded, place.connection))
        self.stream = self.calm.stream(STREAM)
        self.events = Events()
        self.killed: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.took: dict[str, float] = {}
        """Seconds that a work took which was not killed, the last time."""
        self._begun: WeakKeyDictionary[BaseProcess, float] = WeakKeyDictionary()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["lakehouse.chaos.forking", "lakehouse.chaos.faulty"])
        with environment(self.variables):  # it loads the definitions while the HTTP server starts
            forkserver.ensure_running()

    def start(self, work: str, *what: Any) -> BaseProcess:
        """Do some work in a process of its own."""
        process = self._context.Process(target=_worker, args=(work, self.variables, *what), name=work)
        process.start()
        self._begun[process] = time.monotonic()
        return process

    def join(self, processes: Sequence[BaseProcess]) -> None:
        """Wait for their ends. Raises AssertionError for one that takes for ever or fails without a word."""
        self.wait(processes, PATIENCE)
        for process in processes:
            if process.exitcode is None:
                process.kill()
                raise AssertionError(f"{process.name} did not end within {PATIENCE:.0f} s")
            if process.exitcode not in (0, TELLING, -signal.SIGKILL):
                raise AssertionError(f"{process.name} ended with {process.exitcode}")
            self.told[{0: "done", TELLING: "said why not"}.get(process.exitcode, "killed")] += 1

    def wait(self, processes: Sequence[BaseProcess], seconds: float) -> None:
        """Wait for their ends, so long at most, and note how long each took."""
        deadline = time.monotonic() + seconds
        while under_way := [process for process in processes if process.exitcode is None]:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            connection.wait([process.sentinel for process in under_way], left)
            for process in under_way:
                if process.exitcode == 0:
                    self.took[process.name] = time.monotonic() - self._begun[process]

    def send(self, chance: random.Random) -> Sender:
        """Post events to the HTTP server, beside all else."""
        sender = Sender(self.events, chance, self._url)
        sender.start()
        return sender

    def _url(self) -> str | None:
        found = http.running(self.settings)
        return found.url if found else None

    def kill(self, process: BaseProcess) -> None:
        """Kill -9 a work, unless it is done."""
        if process.exitcode is None:
            process.kill()
            self.killed[process.name] += 1

    def kill_http_worker(self) -> None:
        """Kill -9 a process that answers requests; the server replaces it."""
        for worker in http_workers(self.settings)[:1]:
            self._kill("http worker", worker)

    def kill_http(self) -> None:
        """Kill -9 the HTTP server and all of its workers at once, and start it again as `up` does."""
        found = http.running(self.settings)
        family = [psutil.Process(found.pid), *http_workers(self.settings)] if found else []
        kill(family)
        self.killed["http server"] += bool(family)
        self.serve()

    def serve(self) -> None:
        """Start the HTTP server unless it runs."""
        with environment(self.variables):
            http.start(self.settings)

    def kill_storage(self) -> None:
        """Kill -9, and start again as `up` does."""
        if pid := storage.status(self.embedded).pid:
            self._kill("storage", psutil.Process(pid))
        storage.start(self.embedded)

    def _kill(self, kind: str, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            self.killed[kind] += 1

    def settle(self) -> None:
        """With a good network, bring every layer up to date."""
        self.weather.share = 0.0
        process = self.start("settling", days())
        self.join([process])
        if process.exitcode != 0:
            raise AssertionError("not everything can be computed although nothing is wrong any more")
        with open_instance(self.embedded) as history:
            left = [run for run in history.get_runs(dg.RunsFilter(statuses=ACTIVE_STATUSES)) if is_active(history, run)]
        if left:
            raise AssertionError(f"{len(left)} runs of killed processes are said to go on")

    def count(self) -> Count:
        """Compare what was sent with what there is, and each layer with what it is made of."""
        return count(self.calm, self.stream, self.events, leaving_out="daily_metrics")


def count(lake: Lake, stream: Stream, events: Events, *, leaving_out: str = " ") -> Count:
    """Compare the events with what the lake holds, and each layer with what it is made of, but what is left out."""

    def ask(select: str, table: str) -> Counter[str]:
        with lake.engine.cursor() as cursor:
            found = cursor.execute(f"{select} from {scan_sql(lake.tables.load(f'{table}.{stream.name}'))}").fetchall()
        return Counter(key for (key,) in found)

    kept = ask("select event_id", "silver")
    refused = ask("select json_extract_string(raw, '$.event_id')", "quarantine")
    found = Count(
        lost=sorted(events.acknowledged - set(kept) - set(refused)),
        twice=sorted(key for key, times in (kept + refused).items() if times > 1),
        wrong=[str(one) for one in audit(lake, [stream]).findings if not one.check.startswith(leaving_out)],
    )
    valid = {key for key, good in events.sent.items() if good}
    if set(kept) - valid or set(refused) - (set(events.sent) - valid):
        found.wrong.append("silver or quarantine holds what it should not")
    return found


@contextmanager
def faulty_lake(seed: int) -> Iterator[FaultyLake]:
    """A lakehouse in a temporary folder, its storage behind an unreliable network that is good to begin with."""
    with faulty_storage(seed) as place, ExitStack() as stack:
        lake = FaultyLake(place)
        lake.calm.tables.ensure(table_specs([lake.stream]))
        stack.callback(lake.calm.engine.close)
        stack.callback(http.stop, lake.settings)
        lake.serve()
        yield lake


@dataclass(frozen=True, slots=True)
class Place:
    """A home whose storage runs, behind an unreliable network."""

    home: Path
    connection: Connection
    """Past the network."""
    weather: Weather
    variables: Mapping[str, str]
    """Of a process that reaches this storage through the network."""


@contextmanager
def faulty_storage(seed: int) -> Iterator[Place]:
    """Storage in a temporary folder, behind a network that is good to begin with."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-faults-", ignore_cleanup_errors=True) as folder:
        embedded, weather = Settings(home=Path(folder), storage="embedded"), Weather()
        reached = storage.start(embedded)
        try:
            with _reachable(reached, weather, seed) as variables:
                yield Place(Path(folder), reached, weather, variables)
        finally:
            storage.stop(embedded)


@contextmanager
def _reachable(reached: Connection, weather: Weather, seed: int) -> Iterator[dict[str, str]]:
    """The variables of a process that reaches this storage through such weather."""
    endpoint, catalog = urlparse(str(reached.endpoint)), urlparse(reached.catalog["uri"])
    with (
        unreliable(int(endpoint.port or 0), weather, seed) as s3,
        unreliable(int(catalog.port or 0), weather, seed + 1) as tables,
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
    """The processes of the HTTP server that answer requests."""
    found = http.running(settings)
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(found.pid).children(recursive=True) if found else []
        return [child for child in children if not any("resource_tracker" in word for word in child.cmdline())]
    return []


def _worker(work: str, variables: Mapping[str, str], *what: Any) -> None:
    """A process that does some work; it ends well, or with one line, or with a traceback that should not be."""
    os.environ.update(variables)
    get_settings.cache_clear()
    try:
        lake = _alone(Lake(get_settings()))
        for one in UP_TO_DATE if work == "settling" else [work]:
            do(lake, lake.stream(STREAM), one, *what)
    except LakehouseError as problem:
        print(f"{work}: {problem}", file=sys.stderr)
        os._exit(TELLING)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def do(
    lake: Lake, stream: Stream, work: str, wanted: Sequence[date], whose: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Bring a layer up to date, or by a Dagster run all that is below bronze; or do a task of maintenance."""
    match work:
        case "realtime":
            realtime.ingest_hours(lake, stream, _hours())
        case "bronze":
            bronze.ingest_days(lake, stream, wanted)
        case "silver":
            silver.clean_days(lake, stream, wanted)
        case "run":
            _refresh(lake, stream, wanted)
        case _:
            maintain(lake, stream, work, partial(_refresh, lake, stream, wanted), whose)


def _refresh(lake: Lake, stream: Stream, wanted: Sequence[date]) -> None:
    keys = [key for key in stream_asset_keys(stream) if key not in NOT_ALONE]
    raise_on_failure(Runner(lake).run(REFRESH, {**exact_tags(wanted), **lane_tags(REFRESH, stream.name)}, keys))


def _alone(lake: Lake) -> Lake:
    lake.streams = {STREAM: lake.stream(STREAM)}
    return lake


def days() -> list[date]:
    """The days that events are of, in order."""
    today = datetime.now(UTC).date()
    return [today - timedelta(days=back) for back in (2, 1, 0)]


def _hours() -> list[str]:
    now = datetime.now(UTC)
    return [hour_partition(now - timedelta(hours=back)) for back in (1, 0)]


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables for as long as the block lasts."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
