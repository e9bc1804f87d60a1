"""Streams are accepted when they are right and their tables can follow them; else the last accepted ones stay."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.contracts.streams import discover
from lakehouse.errors import ContractError
from lakehouse.processes.problems import read_problems
from lakehouse.runtime.accepted_streams import AcceptedStreams
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.pipeline.own import copy_stream

Edit = Callable[[str], str]


@pytest.fixture
def accepted(tmp_path: Path, connection: Connection) -> AcceptedStreams:
    """The accepted streams of a home, with the session's storage."""
    (tmp_path / "streams").mkdir()
    settings = Settings(home=tmp_path / "home", streams=(tmp_path / "streams",))
    return AcceptedStreams(settings, connection)


def _edit(folder: Path, edit: Edit, name: str = "contract.odcs.yaml") -> None:
    (folder / name).write_text(edit((folder / name).read_text()))


def test_added_changed_and_removed_streams_are_accepted(accepted: AcceptedStreams, tmp_path: Path) -> None:
    assert accepted.update() == []
    assert accepted.folder.is_dir()
    folder = copy_stream(tmp_path / "streams", "accepted_iot", "iot")
    assert accepted.update() == ["Stream accepted_iot: added."]
    first = accepted.folder.resolve()
    assert accepted.update() == []
    assert accepted.folder.resolve() == first, "nothing has changed"

    _edit(folder, lambda text: text + "\n  - property: qualityThreshold\n    value: 0.5\n")
    assert accepted.update() == ["Stream accepted_iot: changed."]
    assert discover([accepted.folder])["accepted_iot"].contract.quality_threshold == 0.5
    assert discover([first])["accepted_iot"].contract.quality_threshold == 0.95, "for runs that have begun with it"

    shutil.rmtree(folder)
    assert accepted.update() == ["Stream accepted_iot: removed. Its tables stay."]
    assert "accepted_iot" not in discover([accepted.folder])


def _replace(old: str, new: str) -> Edit:
    return lambda text: text.replace(old, new, 1)


NUMBER = "logicalType: number\n        physicalType: double"


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        pytest.param("contract.odcs.yaml", _replace("kind:", "kind"), "contract.odcs.yaml: line 3: file: ", id="YAML"),
        pytest.param("contract.odcs.yaml", _replace("name: value", "name: dt"), ": schema.dt: ", id="field"),
        pytest.param("contract.odcs.yaml", _replace(NUMBER, "logicalType: string"), "silver", id="another type"),
        pytest.param("gold.sql", _replace("from silver", "from sliver"), "gold.sql: line ", id="SQL"),
        pytest.param("gold.sql", lambda _: "select 1 as x\n", "gold.sql: must give a column dt", id="columns"),
    ],
)
def test_refused_change_names_its_file_and_stops_no_other(
    accepted: AcceptedStreams, tmp_path: Path, file: str, edit: Edit, message: str
) -> None:
    broken = copy_stream(tmp_path / "streams", "accepted_broken", "iot")
    other = copy_stream(tmp_path / "streams", "accepted_other", "social")
    assert len(accepted.update()) == 2
    before = (accepted.folder / "accepted_broken" / file).read_text()

    _edit(broken, edit, file)
    _edit(other, lambda text: text + "\n  - property: qualityThreshold\n    value: 0.5\n")
    changed, problem = accepted.update()
    assert changed == "Stream accepted_other: changed."
    assert message in problem
    assert "accepted_broken" in problem
    assert problem.endswith("Its last accepted contract and SQL stay until this is right.")
    assert (accepted.folder / "accepted_broken" / file).read_text() == before
    settings = Settings(home=tmp_path / "home")
    assert read_problems(settings) == [problem]

    (broken / file).write_text(before)
    assert accepted.update() == []
    assert read_problems(settings) == []


def test_stream_that_is_wrong_from_the_start_is_left_out(accepted: AcceptedStreams, tmp_path: Path) -> None:
    folder = copy_stream(
        tmp_path / "streams", "accepted_never", "iot", lambda text: text.replace("name: value", "name: dt")
    )
    (problem,) = accepted.update()
    line = 1 + (folder / "contract.odcs.yaml").read_text().split("name: dt")[0].count("\n")
    assert problem.startswith(f"{folder}/contract.odcs.yaml: line {line}: schema.dt: ")
    assert problem.endswith("The stream is left out until this is right.")
    assert discover([accepted.folder]).keys() == discover().keys()


def test_name_of_another_stream_is_refused(accepted: AcceptedStreams, tmp_path: Path) -> None:
    copy_stream(tmp_path / "streams", "iot", "iot")
    (problem,) = accepted.update()
    assert "there is a stream iot already" in problem


def test_missing_folder_of_streams_is_an_error(accepted: AcceptedStreams, tmp_path: Path) -> None:
    (tmp_path / "streams").rmdir()
    with pytest.raises(ContractError, match="is not a folder"):
        accepted.update()
