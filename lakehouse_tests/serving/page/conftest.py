"""A lakehouse of its own behind its front door: first empty, then with days of simulated events in three streams."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from lakehouse.http import api_keys as keys
from lakehouse.landing.landing import land
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.realtime import refresh_hours
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings
from lakehouse.sources.http import server as http
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.pipeline.own import payment
from lakehouse_tests.serving.page.filling import fill

STREAMS = ("financial", "iot")
DAYS, EVENTS = 3, 500

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Home:
    """A lakehouse that runs."""

    url: str
    lake: Lake
    settings: Settings

    def key(self, *scopes: keys.Scope, streams: tuple[str, ...] = ()) -> tuple[str, str]:
        """A new API key's id and text; every process knows it when this returns."""
        key, text = keys.create(self.settings, "test", scopes, streams)
        time.sleep(keys.RELOAD_SECONDS * 1.5)
        return key.id, text

    def wait_for(self, table: str) -> None:
        """Wait until the serving process has seen the table as it is now; it looks every second."""
        snapshot = str(self.lake.tables.load(table).metadata.current_snapshot_id)
        deadline = time.monotonic() + 60
        while {"name": table, "snapshot": snapshot} not in httpx.get(f"{self.url}/v1/tables", timeout=60).json():
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def refresh_realtime(self, stream: str) -> None:
        """Run realtime for this hour."""
        hour = f"{datetime.now(UTC):%Y-%m-%d-%H:00}"
        refresh_hours(self.lake, self.lake.stream(stream), [hour], run_id="test")

    def post(self, stream: str, *events: Mapping[str, Any]) -> None:
        """Send events, stored when this returns."""
        answer = httpx.post(
            f"{self.url}/v1/streams/{stream}/events",
            content="".join(json.dumps(event) + "\n" for event in events),
            headers={"content-type": "application/x-ndjson"},
            timeout=60,
        )
        assert answer.status_code == 202, answer.text


def transaction(key: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """An event of the stream `financial` that somebody should look at."""
    return payment(key, at) | {"amount": "20000.00"} | fields


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A lakehouse with nothing in it."""
    settings = Settings(home=tmp_path_factory.mktemp("page"), http_port=18400, http_workers=1, memory_limit_mb=512)
    storage.start(settings)
    try:
        lake = Lake(settings, storage.connection(settings))
        lake.bootstrap()
        url = http.start(settings).url
        serving.start(settings)
        yield Home(url, lake, settings)
        lake.engine.close()
    finally:
        serving.stop(settings)
        http.stop(settings)
        storage.stop(settings)


@pytest.fixture(scope="session")
def empty_overview(home: Home) -> Any:
    """What the API says of a lake with nothing in it."""
    return httpx.get(f"{home.url}/v1/overview", timeout=60).json()


@pytest.fixture(scope="session")
def filled(home: Home, empty_overview: Any, request: pytest.FixtureRequest) -> Home:
    """The same with days of events, large transactions among them."""
    if CHROMIUM is not None:
        request.getfixturevalue("empty_sight")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    lines = [json.dumps(transaction(f"large-{n}", yesterday - timedelta(minutes=n))).encode() for n in range(5)]
    land(home.lake.objects, "financial", b"\n".join(lines) + b"\n", now=datetime.now(UTC))
    fill(home.lake, STREAMS, days=DAYS, events=EVENTS)
    home.wait_for("gold.daily_metrics")  # the last that was written
    return home


@pytest.fixture
def api(filled: Home) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=filled.url, timeout=60) as client:
        yield client


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. As long as it is there, no other event loop can run in this thread."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the PATH; with Debian's `chromium` or Chrome installed this runs")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@dataclass
class Watched:
    """A page in a browser, and what it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, home: Home) -> Iterator[Open]:
    """Opens the page as somebody would; fails when the browser had anything to complain about."""
    opened: list[Watched] = []

    def open_page(*, width: int = 1400, dark: bool = False, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", **options
        )
        watched = Watched(context.new_page())
        opened.append(watched)

        def heard(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and "status of 4" not in message.text:
                watched.complaints.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith((home.url, "blob:")):
                watched.elsewhere.append(request.url)

        watched.page.on("console", heard)
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        watched.page.on("request", asked)
        watched.page.set_default_timeout(30_000)
        watched.page.goto(home.url)
        return watched.page

    yield open_page
    for watched in opened:
        watched.page.context.close()
        assert (watched.complaints, watched.elsewhere) == ([], [])


@pytest.fixture(scope="session")
def empty_sight(home: Home) -> str:
    """What somebody sees of a lake with nothing in it."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(home.url)
        page.locator("#empty").wait_for()
        return page.inner_text("body")
