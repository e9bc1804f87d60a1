"""Open a warehouse by its name in the settings, and list the kinds there are."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from lakehouse.errors import LakehouseError
from lakehouse.publishing.targets import Target
from lakehouse.settings import Settings


def open_target(settings: Settings, name: str) -> AbstractContextManager[Target]:
    """Open the warehouse of this name. Raises LakehouseError if it is unknown, of no known kind, or does not answer."""
    url = settings.publish.get(name)
    if url is None:
        names = ", ".join(settings.publish) or "none"
        raise LakehouseError(
            f"There is no warehouse {name!r}; there are: {names}. Name one by its URL under [publish] in lakehouse.toml, or as"
            f' LAKEHOUSE_PUBLISH=\'{{"{name}": "postgresql://user@host/database"}}\'.'
        )
    kind = urlsplit(url).scheme.partition("+")[0]
    if kind not in _KINDS:
        raise LakehouseError(f"{kind or 'An empty URL'} is no kind of warehouse; there are: {', '.join(_KINDS)}.")
    return _KINDS[kind](name, url)


def _postgres(name: str, url: str) -> AbstractContextManager[Target]:
    from lakehouse.publishing.postgres import open_postgres  # its driver comes with an extra

    return open_postgres(name, url)


_KINDS: Mapping[str, Callable[[str, str], AbstractContextManager[Target]]] = {"postgresql": _postgres}
