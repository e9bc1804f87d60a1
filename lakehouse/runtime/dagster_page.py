"""Run Dagster's page behind its guard: `python -m lakehouse.runtime.dagster_page WORKSPACE PORT`.

`dagster-webserver` takes no middleware, so this does what it does. Dagster 1.13 exports none of its parts, hence the
private imports; it is pinned below 1.14.
"""

import sys

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from dagster_webserver.version import __version__

from lakehouse.runtime.page_guard import PageGuard
from lakehouse.settings import get_settings, is_loopback

REFRESH_MS = 2000
"""How often the page asks for new asset data, as with `dagster-webserver`."""


def main() -> None:
    """Serve until interrupted, like `dagster-webserver`; the command line names the workspace file and the port."""
    workspace, port = sys.argv[1:]
    settings = get_settings()
    password = settings.dagster_password
    with (
        dg.DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([workspace]), version=__version__) as context,
    ):
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        page = create_app_from_workspace_process_context(context, live_data_poll_rate=REFRESH_MS)
        guard = PageGuard(
            page, password.get_secret_value() if password else None, local=is_loopback(settings.dagster_host)
        )
        uvicorn.run(
            guard,
            host=settings.dagster_host,
            port=int(port),
            log_level="warning",
            ssl_certfile=settings.page_certificate,
            ssl_keyfile=settings.http_tls_key if settings.page_certificate else None,
        )


if __name__ == "__main__":
    main()
