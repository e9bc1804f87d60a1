"""Send events of OpenLineage to a URL, or append them to a file. Needs the extra `openlineage`."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

from lakehouse.automation.openlineage.datasets import AssetDatasets
from lakehouse.automation.openlineage.events import make_event
from lakehouse.errors import LakehouseError
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings

TIMEOUT_SECONDS = 5.0
DEFAULT_ENDPOINT = "api/v1/lineage"
"""The path that Marquez and others have, where the URL has none."""

NO_RETRY = {"total": 0, "connect": 0, "read": 0, "status": 0}
"""The next tick tries again."""


class Sender:
    """Sends events about runs to the receiver that the settings name."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, lake: Lake, graph: Any) -> None:
        place = settings.openlineage or ""
        self._transport = _http(settings, place) if place.startswith(("http://", "https://")) else _file(place)
        self._instance = instance
        self._datasets = AssetDatasets(lake, graph, settings.openlineage_namespace)

    def send(self, entry: dg.EventLogEntry) -> bool:
        """Send the event for a change of a run's status. Returns whether its run is still in the history.

        Raises LakehouseError with the reason if the receiver did not take it.
        """
        event = make_event(self._instance, self._datasets, entry)
        if event is None:
            return False
        try:
            self._transport.emit(event)
        except Exception as error:  # of requests, urllib3 and the file system; a status that is no success
            raise LakehouseError(str(error)) from error
        return True

    def close(self) -> None:
        """Close connections."""
        self._transport.close()


def _http(settings: Settings, url: str) -> HttpTransport:
    parts = urlsplit(url)
    key = settings.openlineage_api_key
    provider = ApiKeyTokenProvider({"apiKey": key.get_secret_value()}) if key else TokenProvider({})
    endpoint = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return HttpTransport(
        HttpConfig(
            url=f"{parts.scheme}://{parts.netloc}",
            endpoint=endpoint.lstrip("/") or DEFAULT_ENDPOINT,
            timeout=TIMEOUT_SECONDS,
            auth=provider,
            retry=NO_RETRY,
        )
    )


def _file(place: str) -> FileTransport:
    path = Path(place.removeprefix("file://")).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path.absolute()), append=True))
