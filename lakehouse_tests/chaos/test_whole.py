"""Every process of `lakehouse up` is killed in turn, and the lakehouse catches up by itself."""

import time

import pytest

from lakehouse.chaos.whole_lakehouse import KINDS, measure
from lakehouse_tests.nightly import NIGHTLY

pytestmark = pytest.mark.skipif(not NIGHTLY, reason="takes minutes; NIGHTLY=1 runs it")


def test_whole_lakehouse_catches_up_after_every_kind_of_kill() -> None:
    figures = {figure["figure"]: figure for figure in measure(len(KINDS), int(time.time()))}
    assert figures["kills"]["value"] > len(KINDS) // 2
    assert (figures["lost"]["value"], figures["twice"]["value"]) == (0, 0)
