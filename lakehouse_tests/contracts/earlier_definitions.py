"""Make `lakehouse/contracts/earlier_definitions.json` from the repository's own history.

Run `python -m lakehouse_tests.contracts.earlier_definitions` after you change a shipped contract or SQL file. A file with the
tokens of the release keeps the release's number. List a file in `REWRITTEN` only if a test shows that it gives the same rows.
"""

import json
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from lakehouse.contracts.default_sql import QUERIES, Query
from lakehouse.contracts.definition import EARLIER, canonical_number, legacy_number
from lakehouse.contracts.model import Contract
from lakehouse.contracts.odcs import CONTRACT_FILE, load_contract
from lakehouse.contracts.streams import discover

RELEASE = "2ab593f"
"""The last commit that stored hashes of raw texts."""

REWRITTEN: frozenset[Query] = frozenset({"features"})
"""SQL files with other tokens than the release's that give the same rows, as the tests of `streams/` show."""

REPOSITORY = Path(__file__).parents[2]

Numbers = Mapping[str, Mapping[str, Mapping[str, list[int]]]]


def has_release() -> bool:
    """Return whether the repository's history has the release. A shallow clone's has not."""
    command = ["git", "-C", str(REPOSITORY), "cat-file", "-e", f"{RELEASE}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def released_sql(stream: str, query: Query) -> str:
    """Read a stream's SQL file as the release hashed it."""
    return _released(f"lakehouse/streams/{stream}/{query}.sql").strip().rstrip(";")


def released_contract(stream: str) -> Contract:
    """Read a stream's contract as it was in the release."""
    with TemporaryDirectory() as parent:
        folder = Path(parent) / stream
        folder.mkdir()
        (folder / CONTRACT_FILE).write_text(_released(f"lakehouse/streams/{stream}/{CONTRACT_FILE}"))
        return load_contract(folder)


def earlier_numbers() -> Numbers:
    """Map each shipped stream, SQL file and current number to the numbers that the release stored for it."""
    numbers: dict[str, dict[str, dict[str, list[int]]]] = {}
    for stream, query, sql, contract in _release():
        today = discover()[stream].definition_of(query).number
        if query in REWRITTEN or canonical_number(sql, contract) == today:
            numbers.setdefault(stream, {})[query] = {str(today): [legacy_number(sql, contract)]}
    return numbers


def as_text(numbers: Numbers) -> str:
    """Return the file's content, one SQL file a line."""
    streams = (
        f"  {json.dumps(stream)}: {{\n"
        + ",\n".join(f"    {json.dumps(query)}: {json.dumps(known)}" for query, known in queries.items())
        + "\n  }"
        for stream, queries in numbers.items()
    )
    return "{\n" + ",\n".join(streams) + "\n}\n"


def _release() -> Iterator[tuple[str, Query, str, Contract | None]]:
    for stream in discover():
        for query in QUERIES:
            yield stream, query, released_sql(stream, query), released_contract(stream) if query == "silver" else None


@cache
def _released(path: str) -> str:
    command = ["git", "-C", str(REPOSITORY), "show", f"{RELEASE}:{path}"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


if __name__ == "__main__":
    EARLIER.write_text(as_text(earlier_numbers()))
