"""Problems of the definitions of a running lakehouse: its processes report them, and `status` shows them."""

from collections.abc import Sequence

from lakehouse.processes.home import private_home, read_state, write_state
from lakehouse.settings import Settings

SOURCES = ("streams", "queries", "lookups", "dashboards", "assets")

METADATA_KEY = "lakehouse/problems"
"""The metadata of Dagster's definitions that lists what is wrong with the files that they lack."""


def report_problems(settings: Settings, source: str, problems: Sequence[str]) -> None:
    """Replace what is wrong with definitions of one source: one of SOURCES."""
    folder = private_home(settings) / "problems"
    folder.mkdir(exist_ok=True)
    write_state(folder / f"{source}.json", {"problems": [*problems]})


def read_problems(settings: Settings, sources: Sequence[str] = SOURCES) -> list[str]:
    """List what is wrong with the definitions of these sources."""
    states = (read_state(settings.root / "problems" / f"{source}.json") or {} for source in sources)
    return [problem for state in states for problem in state.get("problems", ())]
