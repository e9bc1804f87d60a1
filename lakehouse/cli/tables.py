"""`bootstrap`, `streams` and `environment`."""

import shlex

from lakehouse.cli.printing import console, print_json, print_table
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.table_specs import table_specs
from lakehouse.settings import get_settings
from lakehouse.storage.embedded import lifecycle as server
from lakehouse.storage.objects.connection import tool_variables


def make_tables(*, as_json: bool) -> None:
    """Make or evolve every table, and say which."""
    settings = get_settings()
    with server.running(settings) as connection:
        done = Lake(settings, connection).bootstrap()
    if as_json:
        print_json(done)
    else:
        console.print("\n".join(done) or "All tables are as their contracts say.")


def print_environment(*, tools: bool) -> None:
    """Export lines for a shell: `eval "$(lakehouse environment)"`. Raises StorageUnavailableError for those of tools."""
    settings = get_settings()
    if tools:
        variables = tool_variables(server.connection(settings))
    else:
        from lakehouse.runtime.instance import environment  # Dagster takes seconds to import

        variables = environment(settings)
    for name, value in variables.items():
        console.print(f"export {name}={shlex.quote(value)}", soft_wrap=True, highlight=False)


def list_streams(*, as_json: bool) -> None:
    """List every stream; reading them checks contracts and SQL, and raises ContractError."""
    streams = Lake(get_settings()).streams
    table_specs(streams.values())
    found = [
        {
            "stream": stream.name,
            "version": stream.contract.version,
            "key": list(stream.contract.key),
            "fields": len(stream.contract.fields),
            "history_start": str(stream.contract.history_start),
            "quality_threshold": stream.contract.quality_threshold,
            "folder": str(stream.folder),
            "description": stream.contract.description,
        }
        for stream in streams.values()
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        [one["stream"], one["version"], one["fields"], ", ".join(stream.contract.key), one["description"]]
        for one, stream in zip(found, streams.values(), strict=True)
    ]
    print_table("", ["stream", "version", "fields", "key", "what it is"], rows, right=["fields"])
    console.print(f"{len(found)} contracts are in order.")
