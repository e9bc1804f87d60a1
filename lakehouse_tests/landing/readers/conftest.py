import pytest

from lakehouse_tests.landing.readers.samples import never_sound


@pytest.fixture(params=["at once", "row by row"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with both ways to read an object: sound blocks at once, and every row on its own."""
    if request.param == "row by row":
        never_sound(monkeypatch)
    return str(request.param)
