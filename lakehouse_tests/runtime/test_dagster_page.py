"""Dagster's page answers its own pages and local programs; a page of another site can neither read nor change anything."""

import asyncio
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from lakehouse.processes.child import python_command, spawn, stop_child, wait_until_ready
from lakehouse.processes.ports import free_port
from lakehouse.runtime.instance import environment
from lakehouse.runtime.page_guard import PageGuard
from lakehouse.runtime.supervisor import listens
from lakehouse.settings import Settings

HOST = "127.0.0.1:3000"
PASSWORD = "open: sesame ü"
LOGIN = "Basic " + b64encode(f"me:{PASSWORD}".encode()).decode()
MUTATION = 'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["a"]}}]) { __typename } }'
VERSION = {"query": "{ version }"}


async def _page(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for Dagster's page: every request that reaches it is answered."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"reached"})


def _ask(method: str = "GET", path: str = "/", password: str | None = None, **headers: str) -> httpx.Response:
    return _ask_guard(PageGuard(_page, password), method, path, headers)


def _ask_guard(guard: PageGuard, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    sent = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(guard)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://guard") as client:
            return await client.request(method, path, headers=sent)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:3000"},
        {"host": "[::1]:3000", "origin": "http://[::1]:3000"},
        {"host": "LocalHost:8080", "origin": "http://localhost:8080"},  # a forwarded port
        {"origin": f"http://{HOST}", "sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},  # a link
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_own_page_and_programs_pass(method: str, headers: dict[str, str]) -> None:
    response = _ask(method, **headers)
    assert (response.status_code, response.text) == (200, "reached")
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"


FOREIGN: list[dict[str, str]] = [
    {"host": "evil.example"},
    {"host": "evil.example:3000", "origin": "http://evil.example:3000"},
    {"host": "127.0.0.1.evil.example"},
    {"host": "evil.example@127.0.0.1:3000"},
    {"host": ""},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:8000"},
    {"origin": "http://localhost:3000"},
    {"origin": "null"},
    {"origin": ""},
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
    {"sec_fetch_site": "cross-site"},
    {"origin": "http://evil.example", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},  # a form
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_request_of_another_site_is_refused(method: str, headers: dict[str, str]) -> None:
    response = _ask(method, "/graphql", password=PASSWORD, authorization=LOGIN, **headers)
    assert (response.status_code, "reached" in response.text) == (403, False)


@pytest.mark.parametrize("headers", FOREIGN)
def test_websocket_of_another_site_is_refused(headers: dict[str, str]) -> None:
    sent = {"host": HOST} | headers
    scope = {
        "type": "websocket",
        "path": "/graphql",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()],
    }
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(PageGuard(_page, None)(scope, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in messages] == ["websocket.close"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/graphql", "/graphql/"])
def test_graphql_in_an_address_is_refused(method: str, path: str) -> None:
    response = _ask(method, f"{path}?query={MUTATION}", accept="*/*")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (LOGIN, 200),
        (LOGIN.replace("Basic", "basic"), 200),
        ("", 401),
        ("Basic", 401),
        ("Basic ???", 401),
        ("Basic " + b64encode(PASSWORD.encode()).decode(), 401),
        ("Basic " + b64encode(b"me:").decode(), 401),
        (LOGIN.replace("Basic", "Bearer"), 401),
    ],
)
def test_password_is_asked_for_where_one_is_set(authorization: str, status: int) -> None:
    response = _ask(password=PASSWORD, authorization=authorization)
    assert response.status_code == status
    assert ("www-authenticate" in response.headers) == (status == 401)


NAME = "lake.example"
ELSEWHERE = {"authorization": LOGIN, "host": NAME}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (ELSEWHERE, 200),
        (
            ELSEWHERE | {"origin": f"https://{NAME}", "sec_fetch_site": "same-origin"},
            200,
        ),  # behind a proxy that ends TLS
        (ELSEWHERE | {"origin": "https://evil.example"}, 403),
        (ELSEWHERE | {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        (ELSEWHERE | {"host": ""}, 403),
        ({"host": NAME}, 401),
        ({"host": HOST}, 401),
    ],
)
def test_page_that_other_machines_reach_asks_for_the_password_by_any_name(headers: dict[str, str], status: int) -> None:
    guard = PageGuard(_page, PASSWORD, local=False)
    assert _ask_guard(guard, "POST", "/graphql", headers).status_code == status


def test_page_that_other_machines_reach_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="needs a password"):
        PageGuard(_page, None, local=False)
    with pytest.raises(ValueError, match="Set LAKEHOUSE_DAGSTER_PASSWORD too"):
        Settings(dagster_host="192.0.2.1")
    monkeypatch.setenv("LAKEHOUSE_DAGSTER_PASSWORD", "")
    with pytest.raises(ValueError, match="Set LAKEHOUSE_DAGSTER_PASSWORD too"):
        Settings(dagster_host="10.0.0.5")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real page, with a password and no code location."""
    folder = tmp_path_factory.mktemp("page")
    settings, port = Settings(home=folder / "home"), free_port()
    workspace = folder / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    variables = {**os.environ, **environment(settings), "LAKEHOUSE_DAGSTER_PASSWORD": PASSWORD}
    variables["LAKEHOUSE_DAGSTER_HOST"] = "127.0.0.1"
    log = folder / "log"
    child: subprocess.Popen[bytes] = spawn(
        python_command("lakehouse.runtime.dagster_page", str(workspace), str(port)), log, env=variables
    )
    try:
        assert wait_until_ready(lambda: listens(port), lambda: child.poll() is None, 60), log.read_text()
        yield f"127.0.0.1:{port}"
    finally:
        stop_child(child, 20)


def test_dagster_answers_behind_the_guard(page: str) -> None:
    with httpx.Client(base_url=f"http://{page}", headers={"authorization": LOGIN}, timeout=60) as client:
        assert "<html" in client.get("/").text
        assert client.get("/graphql", headers={"accept": "text/html"}).status_code == 200
        assert client.get("/graphql", params=VERSION).status_code == 405
        assert client.post("/graphql", json=VERSION).json()["data"]["version"]
        assert client.post("/graphql", json=VERSION, headers={"host": "evil.example"}).status_code == 403
        simple = {"content-type": "text/plain; x=application/json", "origin": "http://evil.example"}
        assert client.post("/graphql", content=b'{"query": "{ version }"}', headers=simple).status_code == 403
        assert client.get("/", headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), (None, 101)])
def test_websocket_opens_for_the_own_page_only(page: str, origin: str | None, status: int) -> None:
    headers = {"authorization": LOGIN, "origin": origin or f"http://{page}"}
    protocols = [Subprotocol("graphql-ws")]
    try:
        with connect(
            f"ws://{page}/graphql", subprotocols=protocols, additional_headers=headers, proxy=None
        ) as websocket:
            websocket.send('{"type": "connection_init"}')
            assert websocket.recv(timeout=30) == '{"type":"connection_ack"}'
            opened = 101
    except InvalidStatus as error:
        opened = error.response.status_code
    assert opened == status
