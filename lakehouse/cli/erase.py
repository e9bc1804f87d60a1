"""`erase`: a subject's rows removed from every layer, and the proof that no trace is left."""

from typing import Annotated, Any

import typer

from lakehouse.cli.options import DryRun, Json, Stream, Yes
from lakehouse.cli.printing import counted, print_json, print_table, print_text, stderr
from lakehouse.errors import LakehouseError
from lakehouse.maintenance import erase as erasure
from lakehouse.maintenance.erase import Mentions
from lakehouse.maintenance.residue_scan import find_residue
from lakehouse.maintenance.subject import REDACTED, Subject
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.date_ranges import format_days
from lakehouse.pipeline.lineage.retention import is_expired
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as storage

MAX_NAMED_OBJECTS = 10
"""Objects that an error message names."""

CHOICES: dict[Mentions, str] = {
    "leave": "They are left as they are: --mentions redact or remove changes that.",
    "redact": f"In them {REDACTED} takes the place of the value.",
    "remove": "They are removed too.",
}

Key = Annotated[list[str], typer.Option(help="COLUMN=VALUE of the rows; give it twice for rows that have both.")]
MentionsOption = Annotated[
    str,
    typer.Option("--mentions", help="Rows of others that mention the subject: leave, redact (the value) or remove."),
]


def erase(
    stream: Stream,
    key: Key,
    mentions: MentionsOption = "leave",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Find the subject's rows and, once confirmed, remove them. Raises LakehouseError if a trace is left."""
    settings = get_settings()
    choice = _parse_mentions(mentions)
    subject = Subject.parse(Lake(settings).stream(stream), key)
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        erased = erasure.find_rows(lake, subject, choice)
        if not dry_run:
            if not yes:
                _print(erased, choice)
                typer.confirm("Remove these rows for good, and all older snapshots of these tables?", abort=True)
            erased = _erase(lake, subject, choice)
    if as_json:
        print_json(_as_json(erased, choice))
        return
    _print(erased, choice)
    if erased.record:
        print_text(f"No trace of the subject is left. The record is {erased.record}.")


def _parse_mentions(word: str) -> Mentions:
    if word not in CHOICES:
        raise LakehouseError(f"--mentions {word!r} is not one of {', '.join(CHOICES)}.")
    return word


def _erase(lake: Lake, subject: Subject, mentions: Mentions) -> erasure.ErasureResult:
    from lakehouse.automation.repair import ingest_incoming, recompute  # Dagster takes seconds to import

    erased = erasure.erase_rows(lake, subject, mentions)
    stderr.print("Recomputing the layers below bronze")
    contract = subject.stream.contract
    recompute(lake, subject.stream, sorted(day for day in erased.days if not is_expired(contract, "silver", day)))
    ingest_incoming(lake, subject.stream)
    erasure.rewrite_exports(lake, subject.stream)
    stderr.print("Expiring old snapshots")
    erasure.expire_history(lake, subject)
    stderr.print("Scanning for residue")
    if residue := find_residue(lake, subject, mentions_left=mentions == "leave" and bool(erased.mentions)):
        more = f" and {len(residue) - MAX_NAMED_OBJECTS} more" if len(residue) > MAX_NAMED_OBJECTS else ""
        raise LakehouseError(
            f"The values are still in {', '.join(residue[:MAX_NAMED_OBJECTS])}{more}. "
            "A run may have been writing meanwhile: run the command again."
        )
    return erased


def _as_json(erased: erasure.ErasureResult, mentions: Mentions) -> dict[str, Any]:
    return {
        "rows": erased.rows,
        "landing_objects": erased.landing_objects,
        "exports": erased.exports,
        "mentions": {"rows": sum(erased.mentions.values()), "objects": erased.mentions, "choice": mentions},
        "days": format_days(erased.days),
        "record": erased.record,
    }


def _print(erased: erasure.ErasureResult, mentions: Mentions) -> None:
    rows = [[table, count] for table, count in erased.rows.items() if count]
    print_table("", ["table", "rows"], rows, right=["rows"])
    landed, in_objects = sum(erased.landing_objects.values()), counted(len(erased.landing_objects), "landing object")
    print_text(f"{counted(landed, 'row')} in {in_objects}; days: {format_days(erased.days) or 'none'}")
    if erased.exports:
        print_text(f"{counted(len(erased.exports), 'exported object')} written again, and the look-ups with them.")
    if erased.mentions:
        mentioning, objects = sum(erased.mentions.values()), len(erased.mentions)
        print_text(
            f"Rows of others that mention the subject: {mentioning:,}, in {counted(objects, 'landing object')}."
            f" {CHOICES[mentions]}"
        )
