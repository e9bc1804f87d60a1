"""Look-ups are accepted when they are right; else their last accepted files stay, and the others are taken up."""

from pathlib import Path

from lakehouse.pipeline.lake import Lake
from lakehouse.processes.problems import read_problems
from lakehouse.runtime.accepted_lookups import AcceptedLookups
from lakehouse.serving.lookups.declaration import discover_lookups
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.pipeline.own import copy_stream

TEXT = "-- key: event_id\n-- description: x\nselect event_id, amount\nfrom silver.accepted_one\n"
CHANGES = {"key: event_id": 1, "amount": 3, "silver": 4, "from": 4}
"""Words of the text without which it is wrong, and the line on which that is said."""


def test_saved_lookups_are_accepted_and_wrong_ones_stay(tmp_path: Path, connection: Connection) -> None:
    streams, folder = tmp_path / "streams", tmp_path / "lookups"
    copy_stream(streams, "accepted_one")
    settings = Settings(home=tmp_path / "home", streams=(streams,), lookups=(folder,), examples=False)
    Lake(settings, connection).bootstrap()
    accepted = AcceptedLookups(settings, connection)
    assert [line.partition(": ")[2] for line in accepted.update()] == [
        "is not a folder. LAKEHOUSE_LOOKUPS lists folders of .sql files."
    ]
    folder.mkdir()
    one, other = folder / "one.sql", folder / "other.sql"
    one.write_text(TEXT)
    assert accepted.update() == ["Look-up one: added."]
    first = accepted.folder.resolve()
    assert accepted.update() == []
    assert accepted.folder.resolve() == first, "nothing has changed"

    other.write_text(TEXT)
    for change, line in CHANGES.items():
        one.write_text(TEXT.replace(change, "wrong", 1))
        *_, problem = accepted.update()
        assert problem.startswith(f"{one}: line {line}: ")
        assert problem.endswith("Its last accepted file stays until this is right.")
        assert read_problems(settings) == [problem]
        assert accepted.update() == [], "what is wrong is said once"
        assert discover_lookups([accepted.folder], []).by_name.keys() == {"one", "other"}
        assert (accepted.folder / "one.sql").read_text() == TEXT

    one.write_text(TEXT + " where amount > 1\n")
    other.unlink()
    assert accepted.update() == ["Look-up one: changed.", "Look-up other: removed."]
    assert read_problems(settings) == []
