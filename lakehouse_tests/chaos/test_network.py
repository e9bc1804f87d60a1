"""Commits and catalog requests over a network that fails."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from urllib.parse import urlparse

import pytest

from lakehouse.chaos.unreliable_network import FAULTS, SILENT, NetworkFaults, unreliable
from lakehouse.errors import StorageUnavailableError
from lakehouse.maintenance import tags
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.storage import retry
from lakehouse_tests.pipeline.own import Own, assert_conserved, noon, payment

DAY = date(2019, 3, 1)


@pytest.fixture
def network() -> NetworkFaults:
    return NetworkFaults()


@pytest.fixture
def own(make_stream: Callable[..., Own], network: NetworkFaults) -> Iterator[Own]:
    with _reached(make_stream(), network) as own:
        yield own


@contextmanager
def _reached(near: Own, network: NetworkFaults) -> Iterator[Own]:
    """Land ten events of a stream; yield it with a lake that is reached through a network with faults."""
    near.land([*[payment(f"e{n}", noon(DAY)) for n in range(9)], payment("e0", noon(DAY))], noon(DAY))
    reached = near.lake.connection
    ports = [int(urlparse(str(url)).port or 0) for url in (reached.endpoint, reached.catalog["uri"])]
    with unreliable(ports[0], network, 1) as s3, unreliable(ports[1], network, 2) as tables:
        endpoint, uri = f"http://127.0.0.1:{s3}", f"http://127.0.0.1:{tables}"
        far = {**reached.catalog, "uri": uri, "oauth2-server-uri": f"{uri}/v1/oauth/tokens", "s3.endpoint": endpoint}
        lake = Lake(near.lake.settings, replace(reached, endpoint=endpoint, catalog=far, silence_seconds=1))
        lake.streams = near.lake.streams
        yield Own(lake, near.stream)
        lake.engine.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_commit_with_a_failed_request_or_answer_is_made_once(own: Own, network: NetworkFaults, fault: str) -> None:
    own.lake.tables.load(f"bronze.{own.name}")
    network.share, network.kinds, network.only, network.remaining = 1.0, [fault], b"POST /v1/tables/namespaces/", 1
    landed = own.bronze(DAY)
    assert network.counts[fault] == 1
    assert landed.snapshot_id == own.lake.tables.load(f"bronze.{own.name}").metadata.current_snapshot_id
    assert own.snapshots("bronze") == 1
    assert own.counts("bronze") == {DAY: 10}


def test_commit_refused_on_retry_counts_when_it_was_made(own: Own, network: NetworkFaults) -> None:
    with own.lake.tables.load(f"bronze.{own.name}").transaction() as change:  # also logs in
        change.set_properties({"commit.retry.num-retries": "0"})
    network.share, network.kinds, network.only, network.remaining = (
        1.0,
        ["lost answer"],
        b"POST /v1/tables/namespaces/",
        1,
    )
    own.bronze(DAY)
    assert (own.snapshots("bronze"), own.counts("bronze")) == (1, {DAY: 10})
    assert own.ask("select count(*) from {bronze} where _row is not null") == [(10,)], "its files are still there"


def test_layers_are_right_when_a_fifth_of_requests_fail(
    make_stream: Callable[..., Own], subtests: pytest.Subtests
) -> None:
    nears = {fault: make_stream() for fault in FAULTS}
    with ThreadPoolExecutor(len(FAULTS)) as pool:  # at once, because most of the time they wait before they try again
        works = {fault: pool.submit(_compute_layers, near, fault) for fault, near in nears.items()}
    for fault, work in works.items():
        with subtests.test(fault):
            work.result()


def _compute_layers(near: Own, fault: str) -> None:
    network = NetworkFaults()
    with _reached(near, network) as own:
        network.share, network.kinds = 0.2, [fault]
        network.remaining = 3 if fault in SILENT else None  # each costs a second
        own.bronze(DAY)
        own.refresh_realtime(f"{DAY}-12:00")
        cleaned = own.clean(DAY)
        network.share = 0.0
        assert network.counts[fault] > 0
        assert_conserved(own, cleaned)
        assert (own.counts("silver"), own.counts("realtime")) == ({DAY: 9}, {DAY: 10})


def test_unanswered_commit_is_reported_and_can_be_repeated(
    own: Own, network: NetworkFaults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.2)
    own.lake.tables.load(f"bronze.{own.name}")
    network.share, network.kinds, network.only = 1.0, ["lost answer"], b"/v1/tables/namespaces/bronze/tables/"
    with pytest.raises(StorageUnavailableError, match=r"does not answer|did not say whether the commit"):
        own.bronze(DAY)
    network.share = 0.0
    own.bronze(DAY)
    assert own.counts("bronze") == {DAY: 10}
    # The files of the unanswered commit are still there, whether it arrived or not.
    assert own.ask("select count(*) from {bronze} where _row is not null") == [(10,)]


CATALOG_REQUESTS: dict[str, Callable[[Own], object]] = {
    "exists": lambda own: own.lake.tables.exists(f"bronze.{own.name}"),
    "names": lambda own: own.lake.tables.names(),
    "load": lambda own: own.lake.tables.load(f"bronze.{own.name}"),
    "ensure": lambda own: own.lake.tables.ensure(table_specs([own.stream])),
    "tag": lambda own: tags.create_tags(own.lake, "pinned", [f"bronze.{own.name}"]),
}


@pytest.mark.parametrize("fault", ["error", "reset", "cut answer"])
def test_silent_catalog_is_reported_for_every_request(
    own: Own, network: NetworkFaults, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests, fault: str
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", 0.1)
    own.bronze(DAY)
    network.share, network.kinds = 1.0, [fault]
    for name, request in CATALOG_REQUESTS.items():
        network.only = b"POST /v1/tables/" if name == "tag" else b"/v1/tables/"
        with (
            subtests.test(name),
            pytest.raises(StorageUnavailableError, match=r"^The catalog at http://127\.0\.0\.1:\d+ does not answer"),
        ):
            request(own)
