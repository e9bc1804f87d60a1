"""The outcome of each landing object is counted from its own rows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lakehouse.landing.listing import list_days
from lakehouse.pipeline.object_outcomes import ObjectOutcome, object_outcomes
from lakehouse_tests.pipeline.own import Event, Own, noon, payment, threshold

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
    counts = {key: (outcome.landed, outcome.valid, outcome.rejected) for key, outcome in outcomes.items()}
    assert counts == dict(zip(keys, [(4, 2, 2), (5, 1, 4), (1, 1, 0)], strict=True))
    reasons = [outcomes[key].reasons for key in keys]
    status = "status is none of pending, settled, declined"
    assert reasons[0] == (status,)
    assert len(reasons[1]) == 3
    assert status in reasons[1]
    assert outcomes[keys[2]] == ObjectOutcome(landed=1)
    assert object_outcomes(own.lake, own.stream, []) == {}
