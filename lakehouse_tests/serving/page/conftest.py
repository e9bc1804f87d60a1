"""A separate lakehouse behind its gateway: first empty, then with days of simulated events."""

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
from lakehouse.landing.writer import land
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.model_staleness import stale_days
from lakehouse.pipeline.models import write_model
from lakehouse.pipeline.realtime import ingest_hours
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.serving.api import server as serving
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.pipeline.own import payment
from lakehouse_tests.serving.page.filling import fill
from lakehouse_tests.waiting import until

STREAMS = ("financial", "iot")
DAYS, EVENTS = 3, 500

FILES = {
    "models/gold/payments.sql": """/*
description: Payments by currency and day.
key: [dt, currency]
*/
-- chart: line x=dt y=payments by=currency
select dt, currency,
  count(*) as payments, -- Number of payments.
  min(account_id) as an_account
from silver.financial
group by all
""",
    "queries/payments.sql": """/*
name: payments
description: Payments by currency.
*/
-- chart: bar x=currency y=payments
select currency, count(*) as payments
from silver.financial
group by all
""",
    "dashboards/money.md": """# Money

Payments by **currency**. <b>no</b>

```sql
-- chart: area x=dt y=payments by=currency
select dt, currency, payments from gold.payments
```

```sql
-- chart: number y=nothing
select 1 as something
```

```sql
select '<img src=x onerror=alert(1)>' as html from gold.payments limit 1
```
""",
}
"""A model, a named query and a dashboard of the lakehouse's owner, by their paths."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@dataclass
class Home:
    """A running lakehouse."""

    url: str
    lake: Lake
    settings: Settings

    def key(self, *scopes: keys.Scope, streams: tuple[str, ...] = ()) -> tuple[str, str]:
        """Create an API key and return its id and text. Every process knows it when this returns."""
        key, text = keys.create(self.settings, "test", scopes, streams)
        time.sleep(keys.RELOAD_SECONDS * 1.5)
        return key.id, text

    def wait_for(self, table: str) -> None:
        """Wait until the serving process, which polls every second, has the table's current snapshot."""
        snapshot = str(self.lake.tables.load(table).metadata.current_snapshot_id)
        expected = {"name": table, "snapshot": snapshot}
        until(lambda: expected in httpx.get(f"{self.url}/v1/tables", timeout=60).json(), pause=0.2)

    def refresh_realtime(self, stream: str) -> None:
        """Refresh the realtime table for this hour."""
        hour = f"{datetime.now(UTC):%Y-%m-%d-%H:00}"
        ingest_hours(self.lake, self.lake.stream(stream), [hour], run_id="test")

    def post(self, stream: str, *events: Mapping[str, Any]) -> None:
        """Send events. They are stored when this returns."""
        response = httpx.post(
            f"{self.url}/v1/streams/{stream}/events",
            content="".join(json.dumps(event) + "\n" for event in events),
            headers={"content-type": "application/x-ndjson"},
            timeout=60,
        )
        assert response.status_code == 202, response.text


def transaction(key: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """Make a `financial` event that raises an alert."""
    return payment(key, at) | {"amount": "20000.00"} | fields


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An empty lakehouse."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    settings = Settings(
        home=tmp_path_factory.mktemp("page"),
        http_port=18400,
        http_workers=1,
        memory_limit_mb=512,
        models=(folder / "models",),
        queries=(folder / "queries",),
        dashboards=(folder / "dashboards",),
    )
    storage.start(settings)
    try:
        lake = Lake(settings, storage.connection(settings))
        lake.bootstrap()
        url = http_server.start(settings).url
        serving.start(settings)
        yield Home(url, lake, settings)
        lake.engine.close()
    finally:
        serving.stop(settings)
        http_server.stop(settings)
        storage.stop(settings)


@pytest.fixture(scope="session")
def empty_overview(home: Home) -> Any:
    """The overview of an empty lakehouse."""
    return httpx.get(f"{home.url}/v1/overview", timeout=60).json()


@pytest.fixture(scope="session")
def filled(home: Home, empty_overview: Any, request: pytest.FixtureRequest) -> Home:
    """The same lakehouse with days of events, including large transactions."""
    if CHROMIUM is not None:
        request.getfixturevalue("empty_page_text")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    lines = [json.dumps(transaction(f"large-{n}", yesterday - timedelta(minutes=n))).encode() for n in range(5)]
    land(home.lake.objects, "financial", b"\n".join(lines) + b"\n", now=datetime.now(UTC))
    fill(home.lake, STREAMS, days=DAYS, events=EVENTS)
    model = home.lake.models.models.by_name["gold.payments"]
    write_model(home.lake, model, stale_days(home.lake, model))
    home.wait_for("gold.payments")  # the table written last
    return home


@pytest.fixture
def api(filled: Home) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=filled.url, timeout=60) as client:
        yield client


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser. No other event loop can run in this thread until it is closed."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH; install Debian's `chromium` or Chrome to run this test")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@dataclass
class WatchedPage:
    """A page in a browser, with its console errors and its requests to other servers."""

    page: Page
    errors: list[str] = field(default_factory=list)
    external_requests: list[str] = field(default_factory=list)


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, home: Home) -> Iterator[Open]:
    """Open a page in a fresh context. Fails if the browser logged errors or contacted another server."""
    opened: list[WatchedPage] = []

    def open_page(path: str = "/", *, width: int = 1400, dark: bool = False, **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", **options
        )
        watched = WatchedPage(context.new_page())
        opened.append(watched)

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning") and "status of 4" not in message.text:
                watched.errors.append(message.text)

        def on_request(request: Request) -> None:
            if not request.url.startswith((home.url, "blob:")):
                watched.external_requests.append(request.url)

        watched.page.on("console", on_console)
        watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
        watched.page.on("request", on_request)
        watched.page.set_default_timeout(30_000)
        watched.page.goto(home.url + path)
        return watched.page

    yield open_page
    for watched in opened:
        watched.page.context.close()
        assert (watched.errors, watched.external_requests) == ([], [])


@pytest.fixture(scope="session")
def empty_page_text(home: Home) -> str:
    """The page's text for an empty lakehouse."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(home.url)
        page.locator("#empty").wait_for()
        return page.inner_text("body")
