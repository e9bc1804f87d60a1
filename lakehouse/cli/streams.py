"""`streams`: list the streams, and make a new one from a sample of its files."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from lakehouse.cli.load import REFUSED_EXIT_CODE
from lakehouse.cli.options import Json
from lakehouse.cli.printing import console, print_json, print_table, print_text, stderr
from lakehouse.contracts.cutting import find_cut
from lakehouse.contracts.odcs import CONTRACT_FILE, NAME, load_contract
from lakehouse.contracts.streams import SHIPPED, Stream, discover
from lakehouse.contracts.writing import contract_yaml
from lakehouse.errors import ContractError, LakehouseError, UnreadableSourceError
from lakehouse.landing.inference import Inference, infer
from lakehouse.landing.inspection import validate_file
from lakehouse.landing.readers import InputObject, local_object
from lakehouse.landing.samples import MAX_ROWS, Sample, read_sample
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.settings import Settings, get_settings

streams = typer.Typer(add_completion=False)

MAX_DOWNLOAD_BYTES = 1 << 30
MAX_REASONS = 5

Name = Annotated[str, typer.Argument(help="The name: lower-case letters, digits and _, a letter first.")]
From = Annotated[
    list[str],
    typer.Option("--from", metavar="FILE|URL", help="A sample: CSV, NDJSON, JSON or Parquet. Repeat it for more."),
]
Into = Annotated[
    Path | None,
    typer.Option("--into", help="The folder of streams; by default the first of LAKEHOUSE_STREAMS, or ./streams."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Take the best guess instead of asking.")]


@streams.callback(invoke_without_command=True)
def list_streams(context: typer.Context, as_json: Json = False) -> None:
    """List every stream. Raises ContractError if a contract or its SQL is invalid."""
    if context.invoked_subcommand is not None:
        return
    known = Lake(get_settings()).streams
    table_specs(known.values())
    rows: list[dict[str, Any]] = [
        {
            "stream": stream.name,
            "version": stream.contract.version,
            "key": list(stream.contract.key),
            "fields": len(stream.contract.fields),
            "history_start": str(stream.contract.history_start),
            "quality_threshold": stream.contract.quality_threshold,
            "cut_by": _cut_by(stream),
            "folder": str(stream.folder),
            "description": stream.contract.description,
        }
        for stream in known.values()
    ]
    if as_json:
        print_json(rows)
        return
    cells = [[row["stream"], row["version"], row["fields"], ", ".join(row["key"]), row["description"]] for row in rows]
    print_table("", ["stream", "version", "fields", "key", "description"], cells, right=["fields"])
    if whole := [row["stream"] for row in rows if row["cut_by"] is None]:
        print_text(f"Days of {', '.join(whole)} are never cut into pieces on Spark; see docs/spark.md.")
    console.print(f"{len(rows)} contracts are valid.")


def _cut_by(stream: Stream) -> list[str] | None:
    """List the columns that a large day is cut by; None if it stays whole."""
    cut = find_cut(stream.contract, stream.sql("silver"))
    return None if cut is None else list(cut.columns)


@streams.command("new")
def new(name: Name, samples: From, into: Into = None, yes: Yes = False) -> None:
    """Infer a contract from sample files, and write it. Exit with 2 when no contract can be inferred from them."""
    settings = get_settings()
    folder = (into or _streams_folder(settings)).absolute()
    known = _known_streams(settings, folder)
    _check_name(name, folder, known)
    with TemporaryDirectory(prefix="lakehouse-sample-") as scratch:
        try:
            objects = [_open(source, Path(scratch)) for source in samples]
            sample = read_sample(objects)
            inference = infer(name, sample, _guess if yes or not sys.stdin.isatty() else _ask)
        except UnreadableSourceError as error:
            print_text(f"lakehouse: {error}", to=stderr)
            raise SystemExit(REFUSED_EXIT_CODE) from None
        file = _write(inference, folder, samples, known)
        _print(inference, sample, objects)
    _print_next_steps(settings, file, samples)


def _streams_folder(settings: Settings) -> Path:
    return settings.streams[0] if settings.streams else Path("streams")


def _known_streams(settings: Settings, folder: Path) -> dict[str, Stream]:
    folders = dict.fromkeys([*(path.absolute() for path in settings.streams), folder])
    existing = [path for path in folders if path != folder or path.is_dir()]
    return discover(existing, examples=settings.examples)


def _check_name(name: str, folder: Path, known: dict[str, Stream]) -> None:
    if not NAME.fullmatch(name):
        raise LakehouseError(f"{name!r} is not a name; allowed are lower-case letters, digits and _, a letter first.")
    if name in known:
        raise LakehouseError(f"There is a stream {name} already, in {known[name].folder}. Choose another name.")
    if (folder / name).exists():
        raise LakehouseError(f"{folder / name} exists already. Choose another name, or remove it.")


def _open(source: str, scratch: Path) -> InputObject:
    scheme = urlsplit(source).scheme
    if "://" in source and scheme not in ("http", "https"):
        raise UnreadableSourceError(
            f"{source} is read neither as a file nor over HTTP. Copy it to a file, and name that."
        )
    path = _download(source, scratch) if "://" in source else Path(source)
    if path.is_dir():
        raise UnreadableSourceError(f"{source} is a folder; name a file of it.")
    try:
        with path.open("rb"):
            return local_object(path)
    except OSError as error:
        raise UnreadableSourceError(f"Can't read {source}: {error.strerror or error}.") from error


def _download(url: str, scratch: Path) -> Path:
    """Copy an object of the web into a folder. Raises UnreadableSourceError."""
    import httpx  # takes a tenth of a second to import

    path = scratch / (Path(unquote(urlsplit(url).path)).name or "sample")
    try:
        with httpx.stream("GET", url, follow_redirects=True) as response, path.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                file.write(chunk)
                if file.tell() > MAX_DOWNLOAD_BYTES:
                    raise UnreadableSourceError(f"{url} has more than 1 GiB. Download a part of it, and name that.")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreadableSourceError(f"Can't download {url}: {error}.") from error
    return path


def _guess(question: str, choices: Sequence[str]) -> str:
    return choices[0]


def _ask(question: str, choices: Sequence[str]) -> str:
    if len(choices) == 1:
        return choices[0]
    print_text(question)
    for number, choice in enumerate(choices, 1):
        print_text(f"  {number}: {choice}")
    while (number := typer.prompt("Number", default=1, type=int)) not in range(1, len(choices) + 1):
        pass
    return choices[number - 1]


def _write(inference: Inference, folder: Path, samples: Sequence[str], known: dict[str, Stream]) -> Path:
    """Write the contract where it is valid beside all other streams, and nothing where it is not."""
    name = inference.contract.stream
    heading = [f"Inferred from {', '.join(samples)}. Check what it guesses, then change it as you like."]
    with TemporaryDirectory(prefix="lakehouse-stream-") as scratch:
        draft = Path(scratch, name)
        draft.mkdir()
        (draft / CONTRACT_FILE).write_text(
            contract_yaml(inference.contract, inference.comments, inference.sensitive, heading), encoding="utf-8"
        )
        try:
            table_specs([*known.values(), Stream(name, draft, load_contract(draft))])
        except ContractError as error:
            raise LakehouseError(str(error).replace(str(draft), name)) from error
        (folder / name).mkdir(parents=True)
        return Path(shutil.copy(draft / CONTRACT_FILE, folder / name / CONTRACT_FILE))


def _print(inference: Inference, sample: Sample, objects: Sequence[InputObject]) -> None:
    contract = inference.contract
    rows = [
        [f.name, str(f.type), "key" if f.key else "required" if f.required else "", *_remarks(inference, f.name)]
        for f in contract.fields
    ]
    print_table(f"Contract of {contract.stream}", ["field", "type", "", "sample"], rows)
    print_text(f"An event is dated by {contract.event_time}, and told apart by {', '.join(contract.key)}.")
    for note in inference.notes:
        print_text(f"Note: {note}.")
    if sample.is_cut:
        print_text(f"Note: only the first {MAX_ROWS:,} rows of each file were read.")
    for obj in objects:
        validation = validate_file(obj, contract, MAX_ROWS)
        print_text(f"{obj.name}: {validation.valid:,} of {validation.rows:,} rows are valid.")
        for reason, count in [*validation.reasons.items()][:MAX_REASONS]:
            print_text(f"  {count:,} rows: {reason}")


def _remarks(inference: Inference, name: str) -> list[str]:
    field = inference.contract.field(name)
    remarks = [*inference.comments.get(name, ())]
    if field.enum:
        remarks.append(f"one of {', '.join(field.enum)}")
    if kind := inference.sensitive.get(name):
        remarks.append(f"may be personal data: {kind}")
    return ["; ".join(remarks)]


def _print_next_steps(settings: Settings, file: Path, samples: Sequence[str]) -> None:
    name, folder = file.parent.name, file.parents[1]
    print_text(f"Wrote {file}. Next:")
    if folder not in (SHIPPED, *(path.absolute() for path in settings.streams)):
        listed = json.dumps([*map(str, settings.streams), str(folder)])
        print_text(f"  export LAKEHOUSE_STREAMS={shlex.quote(listed)}")
    files = ("FILE" if "://" in source else shlex.quote(source) for source in samples)
    print_text(f"  lakehouse load {name} {' '.join(files)}")
    print_text(f'  lakehouse query "select * from gold.{name}_daily"')
