"""The `lakehouse` command: the list of its subcommands, and how it reports errors."""

import errno
import logging
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from lakehouse.aws import explain, is_client_error
from lakehouse.cli.escaping import escape_control_characters
from lakehouse.cli.lazy import LazyCommand
from lakehouse.cli.logged import logged
from lakehouse.errors import LakehouseError

COMMANDS = (
    LazyCommand(
        "init",
        "lakehouse.cli.init:init",
        "Make a project in a folder: settings, streams, queries, assets and tests of your own.",
    ),
    LazyCommand(
        "demo",
        "lakehouse.cli.demo:demo",
        "Run everything once on a fresh machine: simulate all streams, run the graph, show what each layer holds.",
    ),
    LazyCommand(
        "up",
        "lakehouse.cli.up:up",
        "Start storage, the HTTP server, schedules, sensors and the Dagster page, and keep them running.",
    ),
    LazyCommand("down", "lakehouse.cli.processes:down", "Stop everything that `up` started; stored data stays."),
    LazyCommand(
        "status",
        "lakehouse.cli.processes:status",
        "Show what is running, where to reach it, and how much is stored. Exit with 1 when the lakehouse is not up.",
    ),
    LazyCommand(
        "bootstrap",
        "lakehouse.cli.tables:bootstrap",
        "Create missing tables and add the columns that contracts gained. Safe to repeat.",
    ),
    LazyCommand(
        "environment",
        "lakehouse.cli.environment:environment",
        "Print the variables that Dagster's own commands need to use this lakehouse, as export lines.",
    ),
    LazyCommand(
        "load",
        "lakehouse.cli.load:load",
        "Load files into a stream, each content once, and bring every partition they touch up to date.",
    ),
    LazyCommand(
        "inspect",
        "lakehouse.cli.inspect_file:inspect",
        "Show how a file is written, what a contract says of its rows, and the options that make more of them valid.",
    ),
    LazyCommand(
        "generate",
        "lakehouse.cli.generate:generate",
        "Simulate events at a steady rate: to the HTTP server when it runs, else straight to landing.",
    ),
    LazyCommand(
        "send",
        "lakehouse.cli.send:send",
        "Replay files through the HTTP server. Resumes where it stopped, and sends nothing twice.",
    ),
    LazyCommand(
        "kinesis",
        "lakehouse.cli.kinesis:kinesis",
        "Read the Kinesis streams of LAKEHOUSE_KINESIS into landing; `up` does so when it is set.",
    ),
    LazyCommand(
        "query",
        "lakehouse.cli.query:query",
        "Run read-only SQL over every table, now or at (version => …) or at (timestamp => …).",
    ),
    LazyCommand(
        "receipt",
        "lakehouse.cli.receipt:receipt",
        "Say what became of a row that has landed: its layer, whose duplicate it is, why it was rejected, or why it is gone.",
    ),
    LazyCommand(
        "trace",
        "lakehouse.cli.trace:trace",
        "Trace rows of a table back to the landing objects, rows and bytes that they were made of.",
    ),
    LazyCommand("queries", "lakehouse.cli.queries:queries", "List the named queries with their parameters."),
    LazyCommand(
        "export",
        "lakehouse.cli.export:export",
        "Copy tables, all as of one moment, into a DuckDB file for tools that read such files.",
    ),
    LazyCommand(
        "features",
        "lakehouse.cli.features:features",
        "Add features to a file of entities with times, as they were known then.",
    ),
    LazyCommand(
        "publish",
        "lakehouse.cli.publish:publish",
        "Load tables into a warehouse: the partitions that changed, each in one transaction. Safe to repeat.",
    ),
    LazyCommand(
        "streams",
        "lakehouse.cli.streams:streams",
        "List the streams and check their contracts and SQL; `streams new` infers a contract from a sample.",
    ),
    LazyCommand(
        "models",
        "lakehouse.cli.models:models",
        "List the models and what is stale of them; `models run` computes it. Exit with 2 when a model is wrong.",
    ),
    LazyCommand(
        "test",
        "lakehouse.cli.sql_tests:run_tests",
        "Run the tests of SQL in tests/*.yaml, in memory, or record one from rows of the lake. Exit with 1 when one fails.",
    ),
    LazyCommand(
        "job",
        "lakehouse.cli.job:job",
        "Run one layer of a stream over some days in this process, as Dagster Pipes asks for it or by hand.",
    ),
    LazyCommand(
        "spark-archive",
        "lakehouse.cli.spark_archive:spark_archive",
        "Pack this package and what Spark's workers import into an archive for a cluster.",
    ),
    LazyCommand(
        "audit",
        "lakehouse.cli.audit:audit",
        "Prove from the data that no event is lost or counted twice. Exit with 1 and name the partitions that differ.",
    ),
    LazyCommand(
        "alerts",
        "lakehouse.cli.alerts:alerts",
        "List what is wrong now, and test the receivers of messages. Exit with 1 and name the receivers that fail.",
    ),
    LazyCommand(
        "erase",
        "lakehouse.cli.erase:erase",
        "Remove a subject's rows from every layer, old snapshots included, and check that nothing is left.",
    ),
    LazyCommand(
        "withdraw",
        "lakehouse.cli.withdraw:withdraw",
        "Take files out that were loaded by mistake, and compute every layer without them.",
    ),
    LazyCommand("keys", "lakehouse.cli.keys:keys", "Manage the API keys of the HTTP server."),
    LazyCommand(
        "quarantine",
        "lakehouse.cli.quarantine:quarantine",
        "List rejected rows, export them to fix by hand, and replay them.",
    ),
    LazyCommand(
        "bench", "lakehouse.cli.bench:bench", "Run the benchmarks, one JSON line a figure, each on a lake of its own."
    ),
    LazyCommand(
        "maintain",
        "lakehouse.cli.maintain:maintain",
        "Keep the lake fast and small. Runs every task when you name none.",
    ),
    LazyCommand(
        "backup",
        "lakehouse.cli.backup:backup",
        "Back up the lake, Dagster's history and the API keys to a folder or to S3, while everything runs.",
    ),
    LazyCommand(
        "restore",
        "lakehouse.cli.backup:restore",
        "Restore a backup into an empty LAKEHOUSE_HOME and audit it. Exit with 1 if the audit finds a difference.",
    ),
    LazyCommand("tag", "lakehouse.cli.tag:tag", "Manage tags: names that pin snapshots of tables."),
)


class _Commands(TyperGroup):
    """The group of COMMANDS, in their order."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": {str(command.name): command for command in COMMANDS}})


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def lakehouse() -> None:
    """An asset-based lakehouse: events from landing to serving on S3 and Iceberg, run by Dagster."""


def main() -> None:
    """Run the command. A LakehouseError or a full disk is reported in one line, with exit code 1."""
    # A commit that is retried after a conflict is routine; when the retries run out, an error of ours says so.
    logging.getLogger("pyiceberg.table").setLevel(logging.ERROR)
    try:
        try:
            with logged(sys.argv[1:]):
                app()
        finally:
            sys.stdout.flush()
    except LakehouseError as error:
        print(f"lakehouse: {escape_control_characters(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"lakehouse: {error}; make room and run it again.", file=sys.stderr, flush=True)
        os._exit(1)  # because the interpreter would flush standard output at exit, and fail again
    except Exception as error:
        if not is_client_error(error):
            raise
        print(f"lakehouse: {escape_control_characters(explain(error) or str(error))}", file=sys.stderr)
        raise SystemExit(1) from error.with_traceback(None)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
