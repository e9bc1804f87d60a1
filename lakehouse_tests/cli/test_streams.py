"""A stream is made from a sample, and its files are loaded, by a newcomer who has written nothing."""

import json
from pathlib import Path

import pytest

from lakehouse.contracts.odcs import load_contract
from lakehouse_tests.cli.conftest import Command

ODD_CSV = """sep=;
Order No;Placed;"say ""hi\""";🚀;Unit Price;select;dt
A-1;03.11.2024 10:15;x;1;1.234,50;NA;2024-11-03
A-2;17.11.2024 11:15;y;2;34,50;7;2024-11-03
"""

ODD_NDJSON = """{"ts": 1731600000123, "it's": "x", "user": {"id": 5}, "ms": 12.5, "ok": true, "tags": ["a", "b"]}
{"ts": 1731600001123, "it's": "y", "user": {"id": 6}, "ms": 3, "ok": false, "tags": []}
"""

HEADERLESS = "7,2023-05-01T08:00:00+02:00,Zürich\n8,2023-05-02T08:00:00+02:00,Genf\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "odd.csv").write_text(ODD_CSV)
    (tmp_path / "visits.ndjson").write_text(ODD_NDJSON)
    (tmp_path / "cities.txt").write_text(HEADERLESS)
    (tmp_path / "streams").mkdir()
    return tmp_path


def test_newcomer_loads_files_of_his_own(lakehouse: Command, folder: Path) -> None:
    variables = {"LAKEHOUSE_STREAMS": json.dumps([str(folder / "streams")])}
    for name, file in (("odd", "odd.csv"), ("visits", "visits.ndjson"), ("cities", "cities.txt")):
        done = lakehouse("streams", "new", name, "--from", str(folder / file), "--yes", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{file}: 2 of 2 rows are valid." in done.stdout
        assert f"Wrote {folder}/streams/{name}/contract.odcs.yaml. Next:" in done.stdout
        assert [path.name for path in (folder / "streams" / name).iterdir()] == ["contract.odcs.yaml"]
    loaded = lakehouse("load", str(folder / "odd.csv"), "--stream", "odd", "--json", **variables)
    assert [(file["landed"], file["valid"]) for file in json.loads(loaded.stdout)["by_file"]] == [(2, 2)]
    counted = lakehouse("query", "select dt, events from gold.odd_daily order by dt", "--format", "csv", **variables)
    assert counted.stdout.split() == ["dt,events", "2024-11-03,1", "2024-11-17,1"]


@pytest.mark.parametrize(
    ("name", "sample", "code", "message"),
    [
        ("retail", "odd.csv", 1, "There is a stream retail already, in "),
        ("Bad-Name", "odd.csv", 1, "'Bad-Name' is not a name; allowed are lower-case letters"),
        ("customers", "odd.csv", 1, "customers would also be a name of the lakehouse"),
        ("new", "none.csv", 2, "Can't read "),
        ("new", "http://127.0.0.1:1/x.csv", 2, "Can't download http://127.0.0.1:1/x.csv: "),
        ("new", "s3://bucket/x.csv", 2, "Copy it to a file, and name that."),
        ("new", "streams", 2, "is a folder; name a file of it"),
        ("new", "empty.csv", 2, "empty.csv: it holds no rows"),
    ],
)
def test_no_stream_is_made_of_bad_input(
    lakehouse: Command, folder: Path, name: str, sample: str, code: int, message: str
) -> None:
    (folder / "empty.csv").touch()
    source = sample if "://" in sample else str(folder / sample)
    done = lakehouse("streams", "new", name, "--from", source, "--into", str(folder / "streams"), "--yes")
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.startswith("lakehouse: ")
    assert done.stderr.count("\n") == 1
    assert [*(folder / "streams").iterdir()] == []


def test_contract_says_where_it_comes_from(lakehouse: Command, folder: Path) -> None:
    into = folder / "own"
    done = lakehouse("streams", "new", "visits", "--from", str(folder / "visits.ndjson"), "--into", str(into), "--yes")
    assert f"""  export LAKEHOUSE_STREAMS='["{into}"]'""" in done.stdout
    text = (into / "visits" / "contract.odcs.yaml").read_text()
    assert text.startswith(f"# Inferred from {folder}/visits.ndjson.")
    assert load_contract(into / "visits").field("it_s").source == "it's"
