"""The `lakehouse` command. Each subcommand reads its words and prints what a module of `commands` gives back."""

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lakehouse.cli.bench import bench
from lakehouse.cli.durations import seconds
from lakehouse.cli.options import Files, Json
from lakehouse.cli.upkeep import maintain, tag
from lakehouse.errors import LakehouseError

app = typer.Typer(
    name="lakehouse",
    help="An asset-based lakehouse: events from landing to serving on S3 and Iceberg, run by Dagster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; an error of ours, or a full disk, is one line and exit code 1."""
    # That a commit is made again when another came first is everyday; where it is not, that is an error of ours.
    logging.getLogger("pyiceberg.table").setLevel(logging.ERROR)
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except LakehouseError as problem:
        print(f"lakehouse: {problem}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"lakehouse: {problem}; make room and run it again.", file=sys.stderr, flush=True)
        os._exit(1)  # what could not be printed would fail again
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=1, help="Simulated events for each stream.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    as_json: Json = False,
) -> None:
    """Run everything once on a fresh machine: simulate all streams, run the graph, show what each layer holds."""
    from lakehouse.cli.demo import run_demo

    run_demo(events=events, seed=seed, as_json=as_json)


@app.command()
def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is up, and leave it running.")
    ] = False,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Without the Dagster page.")] = False,
) -> None:
    """Start storage, the HTTP server, schedules, sensors and the Dagster page, and keep them running."""
    from lakehouse.cli.up import start

    start(detach=detach, page=not no_ui)


@app.command()
def down() -> None:
    """Stop everything that `up` started; what was stored stays."""
    from lakehouse.cli.processes import stop

    stop()


@app.command()
def status(as_json: Json = False) -> None:
    """Show what is running, where to reach it, and how much is stored. Exit code 1 when the lakehouse is not up."""
    from lakehouse.cli.processes import show_status

    raise SystemExit(show_status(as_json=as_json))


@app.command()
def bootstrap(as_json: Json = False) -> None:
    """Make the tables that are missing and evolve those whose contract gained a field. Safe to repeat."""
    from lakehouse.cli.tables import make_tables

    make_tables(as_json=as_json)


@app.command()
def environment(
    tools: Annotated[
        bool, typer.Option("--tools", help="Those by which other tools reach storage and catalog, keys among them.")
    ] = False,
) -> None:
    """Print, as export lines, the variables that Dagster's own commands need to work on this lakehouse."""
    from lakehouse.cli.tables import print_environment

    print_environment(tools=tools)


@app.command()
def load(
    stream: Annotated[str, typer.Argument(help="The stream that the files belong to.")],
    paths: Files,
    no_materialize: Annotated[
        bool, typer.Option("--no-materialize", help="Upload alone; the sensors do the rest.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load files into a stream, each content once, and bring every partition they touch up to date."""
    from lakehouse.cli.load import load_files

    load_files(stream, paths, materialize=not no_materialize, as_json=as_json)


@app.command()
def generate(
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; all when none is named.")] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Events a second, over all the streams.")] = 100.0,
    duration: Annotated[str, typer.Option(help="Such as 30s, 5m, 2h, or infinite.")] = "30s",
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 1,
    late: Annotated[float, typer.Option(min=0, max=1, help="Share of late events.")] = 0.0,
    repeated: Annotated[float, typer.Option(min=0, max=1, help="Share of repeated events.")] = 0.0,
    invalid: Annotated[float, typer.Option(min=0, max=1, help="Share of events that break the contract.")] = 0.0,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share of lines that are no events at all.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Simulate events at a steady rate: to the HTTP server when it runs, else straight to landing."""
    from lakehouse.cli.generate import generate_events
    from lakehouse.sources.simulation import Faults

    faults = Faults(late=late, repeated=repeated, invalid=invalid, malformed=malformed)
    generate_events(streams or [], rate, seconds(duration), seed, faults, as_json=as_json)


@app.command()
def send(
    stream: Annotated[str, typer.Argument(help="The stream that the events belong to.")],
    paths: Files,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Events a second; as fast as it goes when not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay files through the HTTP server; goes on where it stopped, and sends nothing twice."""
    from lakehouse.cli.http import send_files

    send_files(stream, paths, rate, as_json=as_json)


@app.command()
def kinesis(
    once: Annotated[bool, typer.Option("--once", help="End when everything there is has been read.")] = False,
    as_json: Json = False,
) -> None:
    """Read the Kinesis streams of LAKEHOUSE_KINESIS into landing; `up` does so when it is set."""
    from lakehouse.cli.kinesis import read_streams

    read_streams(once=once, as_json=as_json)


keys = typer.Typer(help="API keys of the HTTP server.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Whose it is.")],
    scope: Annotated[list[str] | None, typer.Option(help="ingest or query; both when none is given.")] = None,
    stream: Annotated[list[str] | None, typer.Option(help="A stream it is good for; all when none is given.")] = None,
) -> None:
    """Make a key and print it, this once."""
    from lakehouse.cli.http import create_key

    create_key(name, scope or ["ingest", "query"], stream or [])


@keys.command("list")
def keys_list(as_json: Json = False) -> None:
    """List the keys, without their secrets."""
    from lakehouse.cli.http import list_keys

    list_keys(as_json=as_json)


@keys.command("revoke")
def keys_revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")]) -> None:
    """Make a key good for nothing."""
    from lakehouse.cli.http import revoke_key

    revoke_key(key_id)


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT; tables are layer.name, such as silver.retail. - reads it from standard input."
        ),
    ],
    output: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
) -> None:
    """Run read-only SQL over every table, now or at (version => …) or at (timestamp => …)."""
    from lakehouse.cli.query import print_query

    print_query(sys.stdin.read() if sql == "-" else sql, output)


@app.command()
def export(
    duckdb: Annotated[Path, typer.Option("--duckdb", metavar="FILE", help="The DuckDB file to write or replace.")],
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tables such as gold.iot_daily or 'gold.*'; all but bronze and realtime when none is named."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy tables, all as of one moment, into a DuckDB file for tools that read such files."""
    from lakehouse.cli.export import export_file

    export_file(duckdb, tables or [], as_json=as_json)


@app.command()
def streams(as_json: Json = False) -> None:
    """List the streams and check their contracts and SQL."""
    from lakehouse.cli.tables import list_streams

    list_streams(as_json=as_json)


@app.command()
def audit(
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; all when none is named.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first day, such as 2025-11-20.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare landing objects by name, without reading them.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 for what is still to be computed, too.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute differing partitions again, then look again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prove from the data itself that nothing is lost or counted twice; exit code 1 and the partitions where not."""
    from lakehouse.cli.audit import audit_streams

    code = audit_streams(
        streams or [], first, last, read_landing=not quick, strict=strict, repair=repair, as_json=as_json
    )
    raise SystemExit(code)


@app.command()
def erase(
    stream: Annotated[str, typer.Argument(help="The stream.")],
    key: Annotated[list[str], typer.Option(help="Whose rows: COLUMN=VALUE; given twice, rows that have both.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what there is of them, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove a subject's rows from every layer, old snapshots included, and look whether nothing is left."""
    from lakehouse.cli.erase import erase_subject

    erase_subject(stream, key, dry_run=dry_run, yes=yes, as_json=as_json)


quarantine = typer.Typer(help="What was refused, and the way back in.", no_args_is_help=True)
app.add_typer(quarantine, name="quarantine")

Since = Annotated[str | None, typer.Option("--from", help="The first day, such as 2025-11-20.")]
Until = Annotated[str | None, typer.Option("--to", help="The last day.")]
Reason = Annotated[str | None, typer.Option(help="Only rows with a reason that holds this text.")]
OneStream = Annotated[str, typer.Argument(help="The stream.")]


@quarantine.command("list")
def quarantine_list(
    streams: Annotated[list[str] | None, typer.Argument(help="Streams; all when none is named.")] = None,
    first: Since = None,
    last: Until = None,
    as_json: Json = False,
) -> None:
    """Count what is in quarantine by stream, day and reason."""
    from lakehouse.cli.quarantine import list_reasons, selected

    list_reasons(streams or [], selected(first, last), as_json=as_json)


@quarantine.command("show")
def quarantine_show(
    stream: OneStream,
    first: Since = None,
    last: Until = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Print refused rows with their raw text, every reason and where they came from."""
    from lakehouse.cli.quarantine import selected, show_rows

    show_rows(stream, selected(first, last, reason), limit, as_json=as_json)


@quarantine.command("export")
def quarantine_export(
    stream: OneStream,
    first: Since = None,
    last: Until = None,
    reason: Reason = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; standard output when not given.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="ndjson or csv.")] = "ndjson",
) -> None:
    """Write refused rows to a file, to be mended by hand."""
    from lakehouse.cli.quarantine import export_rows, selected

    export_rows(stream, selected(first, last, reason), output, form)


@quarantine.command("replay")
def quarantine_replay(
    stream: OneStream,
    first: Since = None,
    last: Until = None,
    rows: Annotated[Path | None, typer.Option(help="A file of mended rows, as `export` wrote it.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of the rows, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring refused rows in: by today's contract, or as the mended rows of a file."""
    from lakehouse.cli.quarantine import replay_days, replay_rows, selected

    if rows is not None:
        raise SystemExit(replay_rows(stream, rows, dry_run=dry_run, as_json=as_json))
    replay_days(stream, selected(first, last), dry_run=dry_run, as_json=as_json)


app.add_typer(bench, name="bench")
app.add_typer(maintain, name="maintain")
app.add_typer(tag, name="tag")
