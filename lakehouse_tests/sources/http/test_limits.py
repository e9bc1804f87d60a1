"""A server for other machines: TLS, required API keys and a small buffer, which it reports before it is full."""

import logging
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lakehouse.client.client import Client
from lakehouse.client.parcels import Parcel
from lakehouse.client.results import SendResult
from lakehouse.errors import ServerUnreachableError
from lakehouse.http import api_keys as keys
from lakehouse.processes.service import RunningService
from lakehouse.serving.api import gateway_server as http_server
from lakehouse.settings import Settings
from lakehouse.sources.http.client import local_client
from lakehouse.storage.objects.connection import Connection

Events = Callable[..., bytes]

PATH = "/v1/streams/financial/events"
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def strict(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with its own running server, on the storage of the session."""
    home = tmp_path_factory.mktemp("strict")
    certificate, key = _self_signed(home)
    settings = Settings(
        home=home,
        storage="external",
        s3_endpoint=connection.endpoint,
        s3_access_key_id=connection.access_key_id,
        s3_secret_access_key=connection.secret_access_key,
        catalog_uri=connection.catalog["uri"],
        catalog_warehouse=connection.catalog["warehouse"],
        http_port=18220,
        http_workers=1,
        http_keys="always",
        http_buffer_mb=8,
        http_flush_ms=1000,
        http_tls_certificate=certificate,
        http_tls_key=key,
    )
    http_server.start(settings)
    yield settings
    http_server.stop(settings)


@pytest.fixture
def secure(strict: Settings) -> Iterator[httpx.Client]:
    running = http_server.running(strict)
    assert isinstance(running, RunningService)
    assert (running.url.split(":")[0], running.needs_keys) == ("https", True)
    trusted = ssl.create_default_context(cafile=strict.http_tls_certificate)
    headers = NDJSON | {"authorization": f"Bearer {keys.local_key(strict)}"}
    with httpx.Client(base_url=running.url, verify=trusted, headers=headers, timeout=30) as client:
        yield client


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lakehouse")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(plain)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_server_accepts_events_only_with_a_key(secure: httpx.Client, events: Events) -> None:
    assert secure.post(PATH, content=events(5)).json()["accepted"] == 5
    for authorization in ("", "Bearer", "Basic eDp5", "Bearer lh_00000000_guessed"):
        response = secure.post(PATH, content=events(5), headers={"authorization": authorization})
        assert (response.status_code, "Bearer" in response.headers["www-authenticate"]) == (401, True)
        assert "lakehouse keys create" in response.json()["detail"]
    by_header = {"authorization": "", "x-api-key": secure.headers["authorization"].removeprefix("Bearer ")}
    assert secure.post(PATH, content=events(5), headers=by_header).status_code == 202
    assert secure.get("/health/live", headers={"authorization": ""}).status_code == 200
    assert secure.get("/metrics", headers={"authorization": ""}).status_code == 401


def test_client_trusts_the_certificate_of_its_settings(strict: Settings, events: Events) -> None:
    with local_client(strict) as client:
        assert client.send("financial", events(5)).accepted == 5
        with (
            Client(client.url, keys.local_key(strict)) as other,
            pytest.raises(ServerUnreachableError, match="certificate"),
        ):
            other.send("financial", events(5))


def test_full_buffer_rejects_requests_until_there_is_room(secure: httpx.Client, events: Events) -> None:
    body = events(16_000)  # nearly half of the buffer
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: secure.post(PATH, content=body), range(6)))
    rejected = [response for response in responses if response.status_code == 429]
    assert {response.status_code for response in responses} == {202, 429}
    for response in rejected:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "1"
        assert response.headers["ratelimit-policy"] == '"buffer";q=8388608;qu="content-bytes";w=1'
        assert int(response.headers["ratelimit"].split("r=")[1].split(";")[0]) < len(body)
    again = secure.post(PATH, content=body)
    assert (again.status_code, again.json()["accepted"]) == (202, 16_000)


def test_client_waits_until_the_buffer_has_room(
    strict: Settings, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lakehouse.client.requests")
    with local_client(strict) as client:
        parcels = [Parcel("financial", events(16_000), 16_000, f"room-{number}") for number in range(4)]
        result = SendResult.sum(list(client.deliver(parcels)))
    assert (result.events, result.accepted, result.replayed) == (64_000, 64_000, 0)
    assert "BusyError" in caplog.text
