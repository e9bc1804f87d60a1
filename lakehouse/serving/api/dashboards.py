"""Routes under `/v1/dashboards`: pages that users write in Markdown, with the SQL of their charts."""

from http import HTTPStatus

import msgspec
from litestar import Router, get

from lakehouse.http.api_keys import ApiKey
from lakehouse.http.problems import Problem, error_responses
from lakehouse.pipeline.unified_view import view_exists
from lakehouse.processes.problems import report_problems
from lakehouse.serving.api.following import follow_files
from lakehouse.serving.api.state import HttpRequest, Serving
from lakehouse.serving.catalog.catalog import ChartInfo
from lakehouse.serving.query.dashboards import Block, Dashboard, Dashboards, dashboard_stamps, read_dashboards, sql_of
from lakehouse.serving.query.sql import names_mentioned
from lakehouse.settings import Settings


class DashboardInfo(msgspec.Struct, frozen=True):
    """A dashboard."""

    name: str
    title: str
    description: str


class DashboardBlock(msgspec.Struct, frozen=True):
    """A part of a dashboard: text, or a chart."""

    html: str | None
    """Text as HTML without scripts; null for a chart."""
    sql: str | None
    """The SELECT of a chart's rows. Run it with `POST /v1/query`."""
    chart: ChartInfo | None
    reads: list[str]
    """The tables and views that the SELECT reads."""
    error: str | None
    """What is wrong with the chart; null where nothing is."""


class DashboardPage(msgspec.Struct, frozen=True):
    """A dashboard with its content."""

    name: str
    title: str
    version: str
    """Changes with the content."""
    blocks: list[DashboardBlock]


class FollowedDashboards:
    """The dashboards of a lakehouse, as their files are now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.by_name: Dashboards = {}
        self._update()

    async def follow(self) -> None:
        """Read the dashboards again whenever their files have changed, until cancelled."""
        folders = self._settings.dashboards
        await follow_files(self._settings, "dashboards", lambda: dashboard_stamps(folders), self._update)

    def _update(self) -> None:
        self.by_name, problems = read_dashboards(self._settings.dashboards)
        report_problems(self._settings, "dashboards", problems)


@get("/", summary="List the dashboards", responses=error_responses(401, 403))
async def dashboards(
    request: HttpRequest, serving: Serving, followed_dashboards: FollowedDashboards
) -> list[DashboardInfo]:
    """List every dashboard. A key for some streams sees those over tables of these streams alone."""
    key = serving.access.authorize(request, "query")
    return [
        DashboardInfo(each.name, each.title, each.description)
        for each in followed_dashboards.by_name.values()
        if _may_read(serving, key, each)
    ]


@get("/{name:str}", summary="Get a dashboard", responses=error_responses(401, 403, 404))
async def dashboard(
    request: HttpRequest, serving: Serving, followed_dashboards: FollowedDashboards, name: str
) -> DashboardPage:
    """Return the text and the charts of a dashboard. Readers run its SQL with their own keys."""
    key = serving.access.authorize(request, "query")
    found = followed_dashboards.by_name.get(name)
    if found is None or not _may_read(serving, key, found):
        readable = [each.name for each in followed_dashboards.by_name.values() if _may_read(serving, key, each)]
        detail = f"There is no dashboard {name!r}; there are {', '.join(readable) or 'none'}."
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return DashboardPage(found.name, found.title, found.version, [_block(serving, block) for block in found.blocks])


def _block(serving: Serving, block: Block) -> DashboardBlock:
    chart = block.chart
    return DashboardBlock(
        html=block.html or None,
        sql=block.sql or None,
        chart=ChartInfo(chart.kind, chart.x, [*chart.y], chart.by) if chart else None,
        reads=sorted(_reads(serving, block.sql)),
        error=block.error or None,
    )


def _may_read(serving: Serving, key: ApiKey | None, dashboard: Dashboard) -> bool:
    if key is None or not key.streams:
        return True
    read = _reads(serving, sql_of(dashboard))
    return bool(read) and read <= serving.readable_views(key, serving.snapshot)


def _reads(serving: Serving, sql: str) -> set[str]:
    return {name for name in names_mentioned(sql) if view_exists(serving.snapshot, name)}


router = Router("/v1/dashboards", route_handlers=[dashboards, dashboard], tags=["dashboards"])
