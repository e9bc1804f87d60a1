import pytest

from lakehouse_tests.landing.readers.samples import never_sound


@pytest.fixture(params=["at once", "row by row"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read an object: whole blocks where that is sure to be right, and every row with care."""
    if request.param == "row by row":
        never_sound(monkeypatch)
    return str(request.param)
