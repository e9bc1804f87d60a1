"""`inspect`: how a file is written, what a contract says of it, and the options that would make more rows valid.

Archives, workbooks and tables are opened as `load` opens them, and each file in them is inspected.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from lakehouse.cli.dialect_options import apply_dialect, flags_of, with_dialect_options
from lakehouse.cli.load import REFUSED_EXIT_CODE
from lakehouse.cli.options import Json
from lakehouse.cli.printing import counted, print_json, print_text
from lakehouse.contracts.model import Contract
from lakehouse.errors import UnreadableSourceError
from lakehouse.landing.inspection import Advice, Inspection, inspect_file
from lakehouse.landing.partition_folders import partition_folders
from lakehouse.landing.readers import local_object
from lakehouse.landing.selection import Selection, select_files
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import get_settings

File = Annotated[Path, typer.Argument(help="The file, archive or folder to look at; nothing is loaded.")]
OfStream = Annotated[
    str | None, typer.Option("--stream", help="The stream whose contract the rows are checked against.")
]


@with_dialect_options
def inspect(file: File, dialect: Mapping[str, Any], stream: OfStream = None, as_json: Json = False) -> None:
    """Inspect the file, or each file in it; exit with 2 when one is refused.

    Raises LakehouseError if it can't be read, or if an option is wrong.
    """
    contract = Lake(get_settings()).stream(stream).contract if stream else None
    contract = contract and apply_dialect(contract, dialect)
    with TemporaryDirectory(prefix="lakehouse-") as scratch:
        selection = select_files([file], Path(scratch))
        inspections = {path: _inspect(path, contract) for path in selection.files}
        if as_json:
            print_json(_selection_as_json(file, selection, inspections))
        else:
            _print_selection(file, selection, inspections, stream, dialect)
    if selection.refused:
        raise SystemExit(REFUSED_EXIT_CODE)


def _inspect(path: Path, contract: Contract | None) -> Inspection:
    try:
        # The folders directly above give its rows columns, as in its key once it has landed.
        return inspect_file(local_object(path, "/".join([*partition_folders(path), path.name])), contract)
    except OSError as error:
        raise UnreadableSourceError(f"Can't read {path}: {error.strerror or error}.") from error


def _selection_as_json(file: Path, selection: Selection, inspections: Mapping[Path, Inspection]) -> dict[str, Any]:
    """Describe the file itself, or else each file in it."""
    if list(inspections) == [file]:
        return _as_json(inspections[file])
    return {
        "files": [{"file": selection.display(path)} | _as_json(each) for path, each in inspections.items()],
        "refused": list(selection.as_json(selection.refused)),
        "left_out": list(selection.as_json(selection.left_out)),
    }


def _print_selection(
    file: Path,
    selection: Selection,
    inspections: Mapping[Path, Inspection],
    stream: str | None,
    dialect: Mapping[str, Any],
) -> None:
    for path, inspection in inspections.items():
        if path != file:
            print_text(f"{selection.display(path)}:")
        _print(inspection, shlex.quote(str(file)), stream, dialect)
    for verb, skipped in (("Refused", selection.refused), ("Left out", selection.left_out)):
        for each in selection.as_json(skipped):
            print_text(f"{verb}: {each['file']}: {each['reason']}.")


def _as_json(inspection: Inspection) -> dict[str, Any]:
    columns, validation, advice = inspection.columns, inspection.validation, inspection.advice
    return {
        "format": inspection.format,
        "encoding": inspection.encoding or None,
        "delimiter": inspection.delimiter,
        "columns": [{"name": name, "type": kind} for name, kind in inspection.types.items()],
        "warnings": columns.warnings,
        **({"rows": validation.rows, "valid": validation.valid, "reasons": validation.reasons} if validation else {}),
        "advice": advice
        and {
            "options": advice.options,
            "valid": advice.validation.valid,
            "rows": advice.validation.rows,
            "or": advice.others,
        },
    }


def _print(inspection: Inspection, file: str, stream: str | None, given: Mapping[str, Any]) -> None:
    parts = [inspection.format, inspection.encoding, inspection.delimiter and f"delimiter {inspection.delimiter!r}"]
    print_text("Format: " + ", ".join(part for part in parts if part) + ".")
    for name, kind in inspection.types.items():
        print_text(f"  {name}: {kind}")
    for warning in inspection.columns.warnings:
        print_text(f"Warning: {warning}.")
    if inspection.validation:
        validation = inspection.validation
        print_text(f"Rows: {validation.valid:,} of the first {validation.rows:,} are valid for {stream}.")
        for reason, count in validation.reasons.items():
            print_text(f"  {counted(count, 'row')}: {reason}")
    if inspection.advice:
        _print_advice(inspection.advice, file, stream, given)


def _print_advice(advice: Advice, file: str, stream: str | None, given: Mapping[str, Any]) -> None:
    validation = advice.validation
    dialect = advice.options
    print_text(f"With other options {validation.valid:,} of {validation.rows:,} are valid.")
    if dialect:
        print_text(
            f"In the contract, under customProperties: {{property: dialect, value: {json.dumps(dialect, ensure_ascii=False)}}}"
        )
        print_text(f"Or for this file: lakehouse load {stream} {file} {flags_of({**given, **dialect})}")
    if advice.others:
        others = " or ".join(json.dumps(option, ensure_ascii=False) for option in advice.others)
        print_text(f"The rows can't tell whether it is rather {others}. Check before you load.")
