"""Folders named `name=value` give columns to the rows under them, in every format, and change no other row."""

import gzip
import io
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.landing.partition_folders import NULL_VALUE, partition_columns, partition_folders
from lakehouse_tests.landing.readers.samples import THREE, object_of, rows_of, table_of


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "name": [None, "own"], "x": [None, "y"]}), sink)
    return sink.getvalue()


CSV = b"ID,name,x\n1,,\n2,own,y\n"
FORMATS = {
    "a.csv": CSV,
    "a.csv.gz": gzip.compress(CSV),
    "part-0": CSV,
    "a.json": b'{"id":"1"}\n{"id":"2","name":"own","x":"y"}\n',
    "a.parquet": _parquet(),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize("name", FORMATS)
def test_folder_columns_fill_what_rows_lack(name: str) -> None:
    key = f"incoming/sample/x=0/new/NAME=C%C3%B4te%20d%27Ivoire/year=2025/quarter=%22/{name}"
    assert rows_of(THREE, object_of(FORMATS[name], key)) == [
        ("1", "Côte d'Ivoire", None, r'{"year":"2025","quarter":"\""}'),
        ("2", "own", None, r'{"year":"2025","quarter":"\"","x":"y"}'),
    ]


def test_column_of_the_row_goes_before_the_folder() -> None:
    key = "incoming/sample/id=9/year=2025/a.json"
    assert rows_of(THREE, object_of(b'{"id":"1","year":2024}\n{"name":"n"}\n', key)) == [
        ("1", None, None, '{"year":2024}'),
        ("9", "n", None, '{"year":"2025"}'),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_row_without_a_field_that_several_folders_name_is_a_defect(name: str) -> None:
    for folders in ("name=a/NAME=b", "name=a/x=0/Name=b", "Name=a/NAME=a"):
        (first, *others) = rows_of(THREE, object_of(FORMATS[name], f"incoming/sample/{folders}/{name}"))
        given = "a, a" if folders.endswith("a") else "a, b"
        assert first == ("!", f"folders give name several values: {given}", '{"ID":"1"}'), folders
        assert [row[:2] for row in others] == [("2", "own")]


def test_neighbouring_objects_have_the_columns_of_their_own_folders() -> None:
    keys = [f"incoming/sample/{folder}{n}.json" for folder in ("name=a/", "name=b/", "", "name=a/") for n in range(2)]
    objects = [object_of(b'{"id":"1"}\n', key) for key in keys]
    rows = table_of(THREE, *objects).to_pylist()
    assert [row["_object"] for row in rows] == keys
    assert [row["name"] for row in rows] == ["a", "a", "b", "b", None, None, "a", "a"]


@pytest.mark.parametrize("folder", ["realtime/s/year=2025", "a=1/plain", "=1", "name=", f"name={NULL_VALUE}", "plain"])
def test_other_folders_give_no_column(folder: str) -> None:
    key = f"{folder}/a.csv" if folder.startswith("realtime") else f"incoming/sample/{folder}/a.csv"
    assert partition_columns(key) == ()
    assert rows_of(THREE, object_of(b"ID\n1\n", key)) == [("1", None, None)]


def test_defect_stays_as_it_is() -> None:
    content = b"ID,price\n1,2,3\n"
    assert rows_of(THREE, object_of(content, "incoming/s/name=a/x.csv")) == rows_of(THREE, object_of(content, "x.csv"))


@given(columns=st.lists(st.tuples(texts, texts.filter(lambda text: text != NULL_VALUE)), min_size=1, max_size=3))
def test_any_name_and_value_survive_in_a_key(columns: list[tuple[str, str]]) -> None:
    folders = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in columns]
    path = Path("/above", *folders, "a.csv")
    assert partition_columns("/".join(["incoming", "s", *partition_folders(path), "a.csv"])) == tuple(columns)


@pytest.mark.parametrize("value", ["%FF", "100%", "%C3%"])
def test_percent_signs_that_encode_no_text_are_kept(value: str) -> None:
    assert partition_columns(f"incoming/s/name={value}/a.csv") == (("name", value),)


@pytest.mark.parametrize(
    "name", ["Country=Côte d'Ivoire", "Country=C%C3%B4te d'Ivoire", "Country=C%c3%b4te%20d%27Ivoire"]
)
def test_spellings_of_a_folder_are_one_key(name: str) -> None:
    assert partition_folders(Path(name) / "a.csv") == ["Country=C%C3%B4te%20d%27Ivoire"]
