"""What is said of a stream's quarantine is what is still open of it."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from lakehouse.layers.quarantine import land_corrected
from lakehouse.serving.moments import Moments
from lakehouse.serving.quarantine import Arrived, Refusals, reasons_sql, refusals_of, samples_sql
from lakehouse.serving.readers import Readers
from lakehouse_tests.layers.own import Own, noon, payment
from lakehouse_tests.serving.own_moments import reading

DAY = date(2021, 6, 1)


async def _asked(own: Own, moments: Moments, readers: Readers) -> Refusals:
    moment = moments.refresh()
    asked = {"since": None, "reason": None}
    counted = await readers.run(reasons_sql(moment, own.stream), asked, moment=moment)
    samples = await readers.run(samples_sql(moment, own.stream), {**asked, "limit": 10}, moment=moment)
    return refusals_of(own.name, Arrived(0, 0), counted.table.to_pylist(), samples.table.to_pylist())


def test_a_row_that_a_corrected_one_has_replaced_counts_no_longer(
    make_stream: Callable[..., Own], tmp_path: Path
) -> None:
    own = make_stream()
    broken = [payment("a", noon(DAY), amount="-1"), payment("b", noon(DAY), currency="euro")]
    own.land([*broken, *(payment(str(n), noon(DAY)) for n in range(40))], noon(DAY))
    own.bronze()
    own.clean(DAY)
    with reading(own, tmp_path, "silver", "realtime", "bronze", "quarantine") as (moments, readers):
        before = asyncio.run(_asked(own, moments, readers))
        assert (before.rows, len(before.reasons), len(before.samples)) == (2, 2, 2)
        first = next(one for one in before.samples if one.row == 1)
        assert first.object is not None
        land_corrected(own.lake, own.stream, [((first.object, 1), payment("a", noon(DAY) + timedelta(seconds=1)))])
        own.bronze()
        own.clean(DAY)
        after = asyncio.run(_asked(own, moments, readers))
    assert own.counts("quarantine")[DAY] == 2
    assert (after.rows, [one.row for one in after.samples]) == (1, [2])
    assert [one.rows for one in after.reasons] == [1]
