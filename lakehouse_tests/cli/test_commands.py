"""Commands do what they print, report a failure in one line, and can be run again."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse.storage.objects.connection import tool_variables
from lakehouse_tests.cli.conftest import Command, run
from lakehouse_tests.pipeline.own import copy_stream

INVOICES = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536365,85123A,HEART HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
536366,22633,HAND WARMER,4,2010-12-05 08:28:00,1.85,17850.5,United Kingdom
536367,84879,BIRD,32,2010-12-03 08:34:00,1.69,,France
"""


@pytest.fixture(scope="module")
def invoices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "2010-12.csv"
    file.write_text(INVOICES)
    return file


def _failed(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line that a failed command printed."""
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("lakehouse: ")
    return line.removeprefix("lakehouse: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["load", "retial", "x.csv"], "There is no stream 'retial'; there are clickstream, financial", id="stream"),
        pytest.param(["load", "retail", "/nowhere/x.csv"], "Can't read /nowhere/x.csv: there is no such file.", id="file"),
        pytest.param(["load", "retail", ""], "A path is empty; write . for this folder.", id="no path"),
        pytest.param(["load", "retail", "/proc/self/fd"], "holds no files to load", id="a folder without files"),
        pytest.param(["generate", "retial", "--duration", "1s"], "There is no stream 'retial'", id="generate"),
        pytest.param(["query", "delete from silver.iot"], "Only reading is allowed: write a SELECT. This is delete.", id="delete"),
        pytest.param(["query"], "Pass either SQL or --name.", id="no query"),
        pytest.param(["query", "select 1", "--name", "funnel"], "Pass either SQL or --name.", id="two queries"),
        pytest.param(["query", "--name", "funel"], "There is no query 'funel'; there are customer_segments,", id="name"),
        pytest.param(["query", "--name", "daily_metrics"], "daily_metrics needs stream.", id="missing parameter"),
        pytest.param(["query", "--name", "funnel", "-p", "days=0"], "days: 0 is less than 1.", id="parameter"),
        pytest.param(["query", "--name", "funnel", "-p", "days"], "-p 'days' is not NAME=VALUE.", id="no value"),
        pytest.param(["query", "--name", "funnel", *["-p", "days=1"] * 2], "days is given twice", id="twice"),
        pytest.param(["query", "select $x", "-p", "y=1"], "parameters: x", id="unknown parameter of SQL"),
        pytest.param(["query", "select 1", "--format", "xml"], "--format 'xml' is not one of table, json, csv,", id="format"),
    ],
)  # fmt: skip
def test_failure_is_reported_in_one_line(lakehouse: Command, words: list[str], message: str) -> None:
    assert message in _failed(lakehouse(*words))


def test_invalid_setting_is_named(lakehouse: Command) -> None:
    line = _failed(lakehouse("streams", LAKEHOUSE_MEMORY_LIMIT_MB="lots"))
    assert line.startswith("A setting is wrong: LAKEHOUSE_MEMORY_LIMIT_MB: ")


def test_invalid_contract_is_named(lakehouse: Command, tmp_path: Path) -> None:
    (tmp_path / "trips").mkdir()
    (tmp_path / "trips" / "contract.odcs.yaml").write_text("name: trips\n")
    line = _failed(lakehouse("streams", LAKEHOUSE_STREAMS=json.dumps([str(tmp_path)])))
    assert line.startswith(f"{tmp_path}/trips/contract.odcs.yaml: ")


def test_unavailable_storage_is_reported_in_one_line(tmp_path: Path) -> None:
    done = run(
        tmp_path, "query", "select * from silver.iot",
        LAKEHOUSE_STORAGE="external", LAKEHOUSE_CATALOG_URI="http://127.0.0.1:1", LAKEHOUSE_S3_ENDPOINT="http://127.0.0.1:1",
        LAKEHOUSE_S3_ACCESS_KEY_ID="a", LAKEHOUSE_S3_SECRET_ACCESS_KEY="b",
    )  # fmt: skip
    assert "http://127.0.0.1:1 does not answer" in _failed(done)


def test_status_exits_with_1_when_not_up(tmp_path: Path) -> None:
    done = run(tmp_path / "new", "status", "--json")
    assert done.returncode == 1
    status = json.loads(done.stdout)
    assert (status["up"], [process["running"] for process in status["processes"]]) == (False, [False])
    assert not (tmp_path / "new" / "storage").exists(), "looking makes nothing"


def test_down_succeeds_when_not_up(tmp_path: Path) -> None:
    done = run(tmp_path, "down")
    assert (done.returncode, done.stdout) == (0, "The lakehouse was not up.\n")


def test_streams_are_listed_with_their_keys(lakehouse: Command) -> None:
    streams = {row["stream"]: row for row in json.loads(lakehouse("streams", "--json").stdout)}
    assert list(streams) == ["clickstream", "financial", "iot", "logs", "orders", "retail", "social"]
    assert (len(streams["retail"]["key"]), streams["orders"]["key"]) == (8, ["order_id", "version"])


def test_generate_needs_only_a_contract(lakehouse: Command, tmp_path: Path) -> None:
    folder = copy_stream(tmp_path, "silent", "iot")
    (folder / "simulate.py").unlink()
    done = lakehouse(
        *("generate", "silent", "--rate", "500", "--duration", "0.1s", "--json"),
        LAKEHOUSE_STREAMS=json.dumps([str(tmp_path)]),
    )
    assert (done.returncode, json.loads(done.stdout)["streams"]["silent"]["valid"]) == (0, 50)


def test_load_uploads_once_and_materializes(lakehouse: Command, invoices: Path) -> None:
    first = json.loads(lakehouse("load", "retail", str(invoices), "--no-materialize", "--json").stdout)
    assert (first["files"], first["new_files"], first["partitions"]) == (1, 1, "")
    assert _rows(lakehouse, "select count(*) as n from bronze.retail") == [{"n": 0}]

    again = lakehouse("load", "retail", str(invoices.parent), "--json")
    loaded = json.loads(again.stdout)
    assert (loaded["new_files"], loaded["partitions"], again.stderr) == (0, "2010-12-01,2010-12-03,2010-12-05", "")
    assert _rows(lakehouse, "select dt, invoices, lines, net_revenue from gold.retail_daily order by dt") == [
        {"dt": "2010-12-01", "invoices": 1, "lines": 1, "net_revenue": "15.300"},
        {"dt": "2010-12-03", "invoices": 1, "lines": 1, "net_revenue": "54.080"},
    ]
    assert _rows(lakehouse, "select reasons from quarantine.retail") == [
        {"reasons": ["customer_id is not an integer of 64 bits"]}
    ]
    third = lakehouse("load", "retail", str(invoices))
    assert third.stdout.splitlines()[-1] == "Brought up to date: nothing had changed."


HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def test_load_reports_rows_by_file_and_exits_with_2_when_a_file_was_refused(lakehouse: Command, tmp_path: Path) -> None:
    row = "{},A1,MUG,6,2011-05-03 08:26:00,2.55,17850,France\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    odd_name = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv"))
    odd_name.write_text(HEADER + row.format(620001) + row.format(620001))
    (folder / "none.csv").write_text("a;b\n1;2\n")
    (folder / "part.csv").write_text(HEADER + row.format(620002) + "620003,A1\n")
    (folder / "zip.csv").write_bytes(b"7z\xbc\xaf\x27\x1c")
    (folder / "_SUCCESS").touch()
    done = lakehouse("load", "retail", str(folder), "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 2, done.stderr
    counts = [
        [file[name] for name in ("landed", "valid", "duplicates", "rejected", "expired")] for file in said["by_file"]
    ]
    assert [file["file"].rsplit("/", 1)[1] for file in said["by_file"]] == ["caf\\xe9.csv", "none.csv", "part.csv"]
    assert counts[0] == [2, 2, 1, 0, 0]
    assert counts[1][1:] == [0, 0, counts[1][0], 0]
    assert counts[2] == [2, 1, 0, 1, 0]
    assert said["by_file"][2]["reasons"] == ["2 fields where the header has 8"]
    assert [file["reason"] for file in said["refused"]] == ["it is a 7z archive; unpack it and load what is in it"]
    assert [file["file"].rsplit("/", 1)[1] for file in said["left_out"]] == ["_SUCCESS"]

    again = lakehouse("load", "retail", str(folder))
    assert again.returncode == 2
    assert f"{folder}/part.csv: 1 of 2 rows rejected: 2 fields where the header has 8." in again.stdout
    assert f"Left out: {folder}/_SUCCESS: " in again.stdout
    assert f"Refused: {folder}/zip.csv: " in again.stdout
    codes = [lakehouse("load", "retail", str(folder / name)).returncode for name in ("part.csv", "none.csv")]
    assert codes == [0, 2]


def test_file_of_expired_rows_alone_exits_with_2(lakehouse: Command, tmp_path: Path) -> None:
    path = tmp_path / "old.ndjson"
    row = {"event_id": "1", "event_time": "2020-01-01T00:00:00Z", "service": "a", "level": "INFO", "message": "m"}
    path.write_text(f"{json.dumps(row)}\n")
    done = lakehouse("load", "logs", str(path))
    assert done.returncode == 2
    assert "Rows: 1 landed, 0 valid, 0 duplicates, 0 rejected, 1 expired." in done.stdout
    assert "1 row older than silver keeps (30 days). Only bronze has them." in done.stdout


def test_withdrawn_file_can_be_loaded_again(lakehouse: Command, tmp_path: Path) -> None:
    path = tmp_path / "Country=France" / "mistake.csv"
    path.parent.mkdir()
    path.write_text("garbage\n")
    loading = "load", "retail", str(path), "--no-materialize", "--json"
    first = json.loads(lakehouse(*loading).stdout)
    (key,) = first["objects"]
    assert key.startswith("incoming/retail/Country=France/")
    shown = lakehouse("withdraw", str(path), "--dry-run", "--json")
    assert json.loads(shown.stdout) == [{"stream": "retail", "objects": {key: 0}, "days": "", "record": None}]
    done = lakehouse("withdraw", key, "--yes", "--json")
    (said,) = json.loads(done.stdout)
    assert said["record"].startswith("withdrawals/retail/")
    assert f"{path} is in no stream's landing" in _failed(lakehouse("withdraw", str(path), "--yes"))
    assert [json.loads(lakehouse(*loading).stdout)["new_files"] for _ in range(2)] == [1, 0]
    lakehouse("withdraw", str(path), "--yes")


def test_receipt_says_what_became_of_a_row(lakehouse: Command, tmp_path: Path) -> None:
    path = tmp_path / "sale.csv"
    path.write_text("InvoiceNo,StockCode\n1,A1\n")
    (key,) = json.loads(lakehouse("load", "retail", str(path), "--no-materialize", "--json").stdout)["objects"]
    assert json.loads(lakehouse("receipt", key, "1", "--json").stdout)["outcome"] == "landed"
    lakehouse("withdraw", key, "--yes")
    done = lakehouse("receipt", key, "1")
    assert (done.returncode, done.stdout) == (0, "withdrawn: Its landing object was withdrawn.\n")
    assert "no landing object" in _failed(lakehouse("receipt", "silver/retail/x", "1"))
    assert "has no row 1" in _failed(lakehouse("receipt", "realtime/retail/x.json", "1"))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_features_are_added_to_a_file(lakehouse: Command, tmp_path: Path, form: str) -> None:
    lakehouse("bootstrap")
    entities, result = tmp_path / "entities.csv", tmp_path / f"result.{form}"
    entities.write_text("customer_id,time,label\n17850,2025-11-20T14:00:00Z,x\n,now,y\n")
    command = ("features", str(entities), "retail.net_revenue_7d", "-o", str(result))
    assert "Row 2: customer_id is missing" in _failed(lakehouse(*command))
    entities.write_text("customer_id,time,label\n17850,1999-11-20T14:00:00Z,x\n")
    done = lakehouse(*command)
    assert (done.returncode, done.stderr.replace("\n", "")) == (0, f"{result}: 1 row, 1 feature")
    read = pd.read_csv(result) if form == "csv" else pd.read_parquet(result)
    assert [*read.columns] == ["customer_id", "time", "label", "retail.net_revenue_7d"]
    assert read["retail.net_revenue_7d"].isna().all()
    assert "is neither .parquet nor .csv" in _failed(lakehouse(*command[:-1], "result.txt"))


def _rows(lakehouse: Command, sql: str) -> list[dict[str, object]]:
    done = lakehouse("query", sql, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def test_query_prints_csv_and_table(lakehouse: Command) -> None:
    sql = "select 1.50::decimal(9,2) as price, 'a,\"b' as word, ['x'] as list, null as nothing"
    done = lakehouse("query", sql, "--format", "csv")
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["price", "word", "list", "nothing"],
        ["1.50", 'a,"b', '["x"]', ""],
    ]
    table = lakehouse("query", sql).stdout
    assert "price" in table
    assert table.splitlines()[-1] == "1 row"


@pytest.mark.parametrize("name", ["daily_metrics", "revenue_by_hour"])
def test_named_query_runs_by_its_parameters(lakehouse: Command, name: str) -> None:
    given = ["-p", "stream=iot", "--parameter", "until=2019-02-03"] if name == "daily_metrics" else []
    done = lakehouse("query", "--name", name, *given, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout), list)


def test_parameters_are_values_of_sql(lakehouse: Command) -> None:
    done = lakehouse("query", "select $a || $b as x", "-p", "a='=;", "-p", "b=ü=", "--format", "json")
    assert json.loads(done.stdout) == [{"x": "'=;ü="}]


def test_queries_are_listed_with_their_parameters(lakehouse: Command) -> None:
    listed = {query["name"]: query for query in json.loads(lakehouse("queries", "--json").stdout)}
    assert listed.keys() == read_queries().keys()
    assert listed["daily_metrics"]["parameters"][0]["required"] is True
    assert "stream, metric=null, days=30, until=today" in " ".join(lakehouse("queries").stdout.split())


def test_query_prints_csv_without_formulas(lakehouse: Command) -> None:
    sql = "select '@SUM(1)' as word, -1.5 as price, date '2025-01-01' as day, ['=1'] as list"
    done = lakehouse("query", sql, "--format", "csv-escaped")
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["word", "price", "day", "list"],
        ["'@SUM(1)", "-1.5", "2025-01-01", '["=1"]'],
    ]


def test_closed_pipe_ends_query_without_error(home: Path) -> None:
    command = [sys.executable, "-m", "lakehouse", "query", "select * from range(2000000)", "--format", "csv"]
    with subprocess.Popen(
        command, env={**os.environ, "LAKEHOUSE_HOME": str(home)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"range\r\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_full_disk_is_reported_in_one_line(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lakehouse", "streams"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LAKEHOUSE_HOME": str(home)},
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["lakehouse: [Errno 28] No space left on device; make room and run it again."]


def test_query_recovers_from_killed_storage_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    storage.start(settings)
    try:
        assert run(tmp_path, "bootstrap").returncode == 0
        pid = storage.status(settings).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert run(tmp_path, "status").returncode == 1
        done = run(tmp_path, "query", "select count(*) as n from silver.iot", "--format", "json")
        assert (done.returncode, json.loads(done.stdout)) == (0, [{"n": 0}])
    finally:
        storage.stop(settings)


def test_export_writes_a_duckdb_file(lakehouse: Command, tmp_path: Path) -> None:
    assert lakehouse("bootstrap").returncode == 0
    file = tmp_path / "lake.duckdb"
    done = lakehouse("export", "--duckdb", str(file), "gold.*", "serving.unified_retail", "--json")
    assert done.returncode == 0, done.stderr
    exported = json.loads(done.stdout)
    with duckdb.connect(file, read_only=True) as database:
        tables = {
            f"{schema}.{name}": database.execute(f'select count(*) from {schema}."{name}"').fetchall()[0][0]
            for schema, name in database.execute("select schema_name, table_name from duckdb_tables()").fetchall()
        }
    assert exported == {"file": str(file), "bytes": file.stat().st_size, "tables": tables}
    assert tables.keys() >= {"gold.retail_daily", "gold.daily_metrics", "serving.unified_retail"}
    assert [*tmp_path.iterdir()] == [file]


def test_export_refuses_to_replace_other_files(lakehouse: Command, tmp_path: Path) -> None:
    file = tmp_path / "precious.txt"
    file.write_text("precious")
    assert "is not a DuckDB file. Remove it or choose another name." in _failed(
        lakehouse("export", "--duckdb", str(file))
    )
    assert file.read_text() == "precious"
    line = _failed(lakehouse("export", "--duckdb", str(tmp_path / "x.duckdb"), "gold.nothing"))
    assert line.startswith("There is no table gold.nothing. There are: ")


def test_tool_variables_point_to_storage(lakehouse: Command, home: Path) -> None:
    connection = storage.connection(Settings(home=home))
    done = lakehouse("environment", "--tools")
    assert f"export AWS_ENDPOINT_URL_S3={connection.endpoint}\n" in done.stdout
    assert f"export PYICEBERG_CATALOG__LAKEHOUSE__URI={connection.catalog_uri}\n" in done.stdout
    assert f"export PYICEBERG_CATALOG__LAKEHOUSE__S3__ENDPOINT={connection.endpoint}\n" in done.stdout


@pytest.mark.parametrize("of", ["this lakehouse", "another"])
def test_tool_variables_do_not_disturb_commands(lakehouse: Command, home: Path, tmp_path: Path, of: str) -> None:
    variables = tool_variables(storage.connection(Settings(home=home)))
    if of == "another":
        variables = dict.fromkeys(variables, "http://127.0.0.1:1")
    for words in (
        ["bootstrap"],
        ["query", "select count(*) from silver.retail"],
        ["export", "--duckdb", str(tmp_path / "x.duckdb"), "gold.retail_daily"],
        ["audit"],
        ["maintain", "compact", "--dry-run"],
    ):
        done = lakehouse(*words, **variables)
        assert done.returncode == 0, done.stderr


def test_storage_starts_beside_tool_variables(home: Path, tmp_path: Path) -> None:
    variables = tool_variables(storage.connection(Settings(home=home)))
    try:
        done = run(tmp_path, "bootstrap", **variables)
        assert done.returncode == 0, done.stderr
    finally:
        storage.stop(Settings(home=tmp_path))


def test_archive_is_inspected_file_by_file(lakehouse: Command, tmp_path: Path) -> None:
    files = {
        "x/Country=France/a.csv": INVOICES.replace(",Country", ",_").encode(),
        "x/b.csv": INVOICES.replace(",", ";").encode(),
        "x/.b.csv.crc": b"crc!",
        "x/c.png": b"\x89PNG\r\n\x1a\n",
        "x/d.gif.csv": b"GIF89a",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    archive = shutil.make_archive(str(tmp_path / "export"), "gztar", tmp_path, "x")
    done = lakehouse("inspect", archive, "--stream", "retail", "--json")
    inspected = json.loads(done.stdout)
    assert done.returncode == 2
    assert [(each["file"].removeprefix(archive), each["valid"], each["rows"]) for each in inspected["files"]] == [
        ("/x/Country=France/a.csv", 3, 4),
        ("/x/b.csv", 3, 4),
    ]
    assert [each["delimiter"] for each in inspected["files"]] == [",", ";"]
    assert [each["file"].removeprefix(archive) for each in inspected["left_out"]] == ["/x/.b.csv.crc", "/x/c.png"]
    assert [each["file"].removeprefix(archive) for each in inspected["refused"]] == ["/x/d.gif.csv"]
    text = lakehouse("inspect", archive, "--stream", "retail").stdout
    assert "/x/b.csv:\nFormat: csv, utf-8, delimiter ';'." in text
    assert "/x/d.gif.csv: it is an image; leave it out." in text
