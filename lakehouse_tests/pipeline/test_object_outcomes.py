"""The outcome of each landing object is counted from its own rows, and adds up to the ledgers."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

from lakehouse.landing.listing import list_days
from lakehouse.pipeline.object_outcomes import ObjectOutcome, object_outcomes
from lakehouse_tests.pipeline.own import Event, Own, noon, payment, span, threshold

DAY = datetime.now(UTC).date() - timedelta(days=2)


def test_rows_are_counted_by_object_with_their_reasons(make_stream: Callable[..., Own]) -> None:
    own = make_stream(edit=threshold(0.1))
    lost, negative = payment("lost", noon(DAY), status="lost"), payment("negative", noon(DAY), amount="-1", note="x")
    objects: list[list[Event]] = [
        [payment("a", noon(DAY)), payment("a", noon(DAY)), lost, lost],
        [lost, negative, "{", "{", payment("b", noon(DAY) - timedelta(days=1))],
        [payment("a", noon(DAY))],
    ]
    keys = [own.land(events, noon(DAY) + timedelta(seconds=n)) for n, events in enumerate(objects)]
    own.bronze()
    own.clean(DAY - timedelta(days=1), DAY)
    landed = list_days(own.lake.objects, own.name, DAY, DAY)[DAY]
    outcomes = object_outcomes(own.lake, own.stream, landed)
    counts = {key: (o.landed, o.valid, o.duplicates, o.rejected) for key, o in outcomes.items()}
    assert counts == dict(zip(keys, [(4, 2, 2, 2), (5, 1, 0, 4), (1, 1, 0, 0)], strict=True))
    reasons = [outcomes[key].reasons for key in keys]
    status = "status is none of pending, settled, declined"
    assert reasons[0] == (status,)
    assert len(reasons[1]) == 3
    assert status in reasons[1]
    assert outcomes[keys[2]] == ObjectOutcome(landed=1)
    assert object_outcomes(own.lake, own.stream, []) == {}


def test_random_rows_add_up_to_silver_by_object(make_stream: Callable[..., Own]) -> None:
    own, random, days = make_stream(edit=threshold(0.85)), Random(11), span(DAY - timedelta(days=2), 3)
    for n in range(10):
        is_bad = n in (3, 7)
        events = [
            payment(f"k{random.randrange(40)}", noon(random.choice(days)), amount=str(random.randrange(1, 9)))
            | ({"status": "lost"} if random.random() < (0.9 if is_bad else 0.1) else {})
            for _ in range(40)
        ]
        own.land(events, noon(DAY) + timedelta(seconds=random.randrange(5)))
    own.bronze()
    assert any(ledger.blocked_objects for ledger in own.clean(*days).ledgers.values())
    landed = list_days(own.lake.objects, own.name, DAY, DAY)[DAY]
    outcomes = object_outcomes(own.lake, own.stream, landed)
    assert sum(o.valid - o.duplicates for o in outcomes.values()) == sum(own.counts("silver").values())
    assert all(outcomes[obj.key] == object_outcomes(own.lake, own.stream, [obj])[obj.key] for obj in landed[:3])
    # silver keeps the time of arrival of its rows, and so shows from which objects they are not
    silver = Counter(dict(own.ask("select _arrived_at, count(*) from {silver} group by _arrived_at")))
    by_time = Counter[datetime]()
    for obj in landed:
        by_time[obj.arrived_at.replace(tzinfo=None)] += outcomes[obj.key].valid - outcomes[obj.key].duplicates
    assert +by_time == +silver
