"""All that `lakehouse up` runs is killed, one kind after another, and it catches up by itself."""

import os
import time

import pytest

from lakehouse.chaos.whole import KINDS, measure

pytestmark = pytest.mark.skipif(not os.environ.get("NIGHTLY"), reason="takes minutes; NIGHTLY=1 runs it")


def test_whatever_dies_of_a_whole_lakehouse_nothing_is_lost_or_there_twice_and_it_catches_up_by_itself() -> None:
    figures = {figure["figure"]: figure for figure in measure(len(KINDS), int(time.time()))}
    assert figures["kills"]["value"] > len(KINDS) // 2
    assert (figures["lost"]["value"], figures["twice"]["value"]) == (0, 0)
