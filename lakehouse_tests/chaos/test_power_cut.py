"""A power cut loses nothing that was acknowledged."""

import pytest

from lakehouse.chaos import power_cut


def test_power_cut_under_load_loses_no_acknowledged_event() -> None:
    if reason := power_cut.unavailable():
        pytest.skip(reason)
    with power_cut.powered() as lakehouse:
        assert lakehouse.cut(seed=2) > 0
