"""A stream whose contract declares an envelope takes such bodies: the response says what silver and quarantine then hold."""

import gzip
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from lakehouse.pipeline.lake import Lake
from lakehouse_tests.conftest import ENVELOPED
from lakehouse_tests.pipeline.own import make_stream, open_stream, shared_lake

__all__ = ["make_stream", "shared_lake"]  # fixtures

REST = {"type": "payment", "status": "settled"}
ENVELOPES: list[dict[str, Any]] = [
    {
        "source": "bank",
        "detail": {
            "currency": "EUR",
            "records": [
                {"event_id": "a", "event_time": "01/03/2025 13:00:00", "account": {"id": "x", "n": 1}, "amount": "1.005"},
                {"event_id": "b", "event_time": "2025-03-01T12:00:00Z", "account": {"id": "y"}, "amount": 2, "_": None},
                {"event_id": "c", "event_time": "31/02/2025 13:00:00", "account": {"id": "z"}, "amount": 3},
            ],
        },
    },
    {"record": {"event_id": "d", "event_time": "02/03/2025 00:30:00", "account_id": "x", "amount": 4, "currency": "USD"}},
    {"nothing": 1},
    {"event_id": "e", "event_time": "2025-03-01T12:00:00", "account": {"id": "x"}, "amount": "5", "currency": "USD"},
]  # fmt: skip
NO_TIME = (
    "event_time is not a time such as 2025-11-20T14:15:00Z (ISO 8601, at most 6 decimals of a second)"
    " or dd/MM/yyyy HH:mm:ss"
)
NO_RECORDS = "broken envelope: there is no $.detail.records[*] or $.record"


def _ndjson(envelopes: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(envelope).encode() + b"\n" for envelope in envelopes)


BODIES: dict[str, tuple[Callable[[list[dict[str, Any]]], bytes], dict[str, str]]] = {
    "lines": (_ndjson, {"content-type": "application/x-ndjson"}),
    "array": (lambda envelopes: json.dumps(envelopes, indent=1).encode(), {"content-type": "application/json"}),
    "gzip": (lambda envelopes: gzip.compress(_ndjson(envelopes)), {"content-encoding": "gzip"}),
}


def test_envelopes_over_http_are_the_rows_that_the_response_counts(
    client: httpx.Client, shared_lake: Lake, own_streams: Path
) -> None:
    path = f"/v1/streams/{ENVELOPED}/events"
    for name, (pack, headers) in BODIES.items():
        response = client.post(path, content=pack(_complete(name)), headers=headers).json()
        assert (response["events"], response["accepted"], response["quarantined"]) == (6, 4, 2), name
        assert [(reason["row"], reason["reason"]) for reason in response["reasons"]] == [(3, NO_TIME), (5, NO_RECORDS)]
    for body in (b'{"record": null, "detail": {"records": []}}', b'[{"detail": {"records": []}}]'):
        assert client.post(path, content=body).status_code == 400

    own = open_stream(shared_lake, own_streams, ENVELOPED)
    own.bronze()
    own.clean(*own.counts("bronze"))
    columns = "split_part(event_id, ' ', 1), event_time, account_id, amount, currency"
    noon, before_midnight = (datetime(2025, 3, 1, hour, minute) for hour, minute in ((12, 0), (23, 30)))
    assert own.ask(f"select distinct {columns} from {{silver}} order by 1") == [
        ("a", noon, "x", Decimal("1.01"), "EUR"),
        ("b", noon, "y", Decimal("2.00"), "EUR"),
        ("d", before_midnight, "x", Decimal("4.00"), "USD"),
        ("e", datetime(2025, 3, 1, 11), "x", Decimal("5.00"), "USD"),
    ]
    assert own.counts("silver") == {date(2025, 3, 1): 4 * len(BODIES)}
    assert [reasons for _, reasons in own.quarantined()] == [*[[NO_RECORDS]] * 3, *[[NO_TIME]] * 3]
    extras = own.ask("select distinct _extra from {bronze} where _extra is not null order by 1")
    assert [json.loads(extra) for (extra,) in extras] == [
        {"_": None},
        {"account": {"n": 1}, "$": {"source": "bank"}},
    ]


def _complete(body: str) -> list[dict[str, Any]]:
    """Add to each event the fields that all have, and to its id the body that it is in."""
    envelopes: list[dict[str, Any]] = json.loads(json.dumps(ENVELOPES))
    for envelope in envelopes:
        events = [envelope, envelope.get("record", {}), *envelope.get("detail", {}).get("records", [])]
        for event in events:
            if "event_id" in event:
                event |= REST | {"event_id": f"{event['event_id']} {body}"}
    return envelopes
