"""`queries`: list the named queries with their parameters."""

import msgspec

from lakehouse.cli.options import Json
from lakehouse.cli.printing import print_json, print_table
from lakehouse.serving.api.named_queries import ParameterInfo, query_info
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import get_settings


def queries(as_json: Json = False) -> None:
    """List every named query. Raises QueryFileError if the file of one is wrong."""
    settings = get_settings()
    infos = [query_info(query) for query in read_queries(settings.queries, examples=settings.examples).values()]
    if as_json:
        print_json(msgspec.to_builtins(infos))
        return
    rows = [[info.name, ", ".join(map(_parameter, info.parameters)), info.description] for info in infos]
    print_table("", ["query", "parameters", "description"], rows)


def _parameter(parameter: ParameterInfo) -> str:
    """Write a parameter with its default; one without a default is required, `null` stands for none."""
    default = "null" if parameter.default is None else parameter.default
    return parameter.name if parameter.required else f"{parameter.name}={default}"
