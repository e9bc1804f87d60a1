"""The page in a browser: its live data, and its use by mouse, by keyboard and by screen readers."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

import lakehouse.serving
from lakehouse.cli import processes
from lakehouse.landing.left_out import group_by_reason, write_report
from lakehouse.serving.api import server as serving
from lakehouse_tests.serving.page.conftest import DAYS, STREAMS, Home, Open, transaction

MISSING = "\u2013"
HTML = '<img src=x onerror="document.title=1"><script>document.title=1</script>'

expect.set_options(timeout=30_000)


def wait_for_data(page: Page) -> None:
    """Wait until every section shows data."""
    expect(page.locator("#streams tr")).to_have_count(7)
    expect(page.locator("#metrics-chart canvas")).to_be_visible()
    expect(page.locator("#reasons button").first).to_be_visible()
    expect(page.locator("#grid .cell.materialised").first).to_be_visible()


def test_empty_lakehouse_shows_how_to_send_events(empty_page_text: str, empty_overview: Any) -> None:
    assert "No events yet" in empty_page_text
    assert "lakehouse generate --rate 200" in empty_page_text
    assert [stream["newest_at"] for stream in empty_overview["streams"]] == [None] * 7


def test_streams_update_without_reload(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    expect(page.locator("#connection")).to_have_text("live")
    overview = httpx.get(f"{filled.url}/v1/overview").json()
    assert [stream["stream"] for stream in overview["streams"]] == page.locator("#streams th").all_inner_texts()
    row = page.locator("#streams tr", has_text="iot")
    expect(row.locator("[data-label=Newest]")).not_to_have_text(MISSING)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    filled.post(
        "iot", *[{"event_id": "fresh", "event_time": now, "device_id": "d", "metric": "humidity", "value": 40}] * 50
    )
    expect(row.locator("[data-label='Events/s']")).not_to_have_text("0")
    expect(row.locator("[data-label=Newest]")).to_have_text(re.compile(r"^\d\.\d s$"))


def test_what_is_left_out_of_landing_is_shown(
    filled: Home, open_page: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = open_page()
    wait_for_data(page)
    expect(page.locator("#left-out")).to_be_hidden()
    reason = f"names that begin with . or _ {HTML}"
    write_report(filled.lake.objects, group_by_reason("iot", {"incoming/iot/_temporary/": reason}))
    try:
        expect(page.locator("#left-out")).to_have_text(f"Left out: incoming/iot/_temporary/: {reason}.")
        warnings = [f"incoming/iot/: 1 is left out: {reason}"]
        assert httpx.get(f"{filled.url}/health/ready").json() == {"status": "ok", "warnings": warnings}
        monkeypatch.setattr(processes, "get_settings", lambda: filled.settings)
        with pytest.raises(SystemExit):
            processes.status()
        assert f"Left out: incoming/iot/_temporary/: {reason}." in capsys.readouterr().out.replace("\n", " ")
    finally:
        write_report(filled.lake.objects, [])
    assert httpx.get(f"{filled.url}/health/ready").json() == {"status": "ok"}
    expect(page.locator("#left-out")).to_be_hidden()


def test_metric_shows_with_its_forecast(filled: Home, open_page: Open) -> None:
    page = open_page()
    form = page.locator("#metrics-form")
    form.locator("select[name=stream]").select_option("iot")
    form.locator("select[name=metric]").select_option("readings")
    form.locator("select[name=shown]").select_option("forecast")
    plot = page.locator("#metrics-chart .plot")
    expect(plot).to_have_attribute("aria-label", re.compile("^Forecast of readings of iot, "))
    expect(page.locator("#metrics-chart canvas")).to_be_visible()
    path = f"{filled.url}/v1/overview/metrics/iot/readings/forecast"
    ahead = httpx.get(path, params={"days": 10, "ahead": 5}).json()
    days = [date.fromisoformat(day) for day in ahead["days"]]
    assert (len(days), days[10], ahead["expected"]) == (15, datetime.now(UTC).date(), [None] * 15)
    assert ahead["values"][9] == httpx.get(path, params={"days": 1, "ahead": 1}).json()["values"][0] > 0
    one = httpx.get(path, params={"days": 1, "ahead": 1, "by": "metric", "value": "temperature"}).json()
    assert 0 < one["values"][0] < ahead["values"][9]
    for wrong in ({"by": "metric"}, {"ahead": 0}, {"days": 500}):
        assert httpx.get(path, params=wrong).status_code == 400


def test_metrics_show_as_chart_and_table(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    form = page.locator("#metrics-form")
    form.locator("[name=stream]").select_option("financial")
    form.locator("[name=metric]").select_option("transactions")
    form.locator("[name=by]").select_option("currency")
    form.locator("[name=days]").select_option("7")
    known = httpx.get(f"{filled.url}/v1/overview/metrics/financial").json()
    span = {"first": known["first_day"], "last": known["last_day"], "by": "currency"}
    metrics = httpx.get(f"{filled.url}/v1/overview/metrics/financial/transactions", params=span).json()
    newest = {series["name"]: series["values"][-1] for series in metrics["series"]}
    legend = page.locator("#metrics-chart .legend-values")
    for name, value in newest.items():
        expect(legend).to_contain_text(f"{name} {MISSING if value is None else f'{value:,.0f}'}")
    page.locator("#metrics-chart .plot").focus()
    page.keyboard.press("ArrowLeft")
    expect(legend.locator(".when")).to_have_text(metrics["days"][-2])
    expect(page.locator("#metrics-chart [aria-live]")).to_contain_text(f"{metrics['days'][-2]}: ")
    page.locator("#metrics-chart summary").click()
    rows = page.locator("#metrics-chart tbody tr")
    expect(rows.first.locator("th")).to_have_text(metrics["days"][-1])
    total = sum(value or 0 for series in metrics["series"] for value in series["values"])
    shown = [cell.replace(",", "").replace(MISSING, "0") for cell in rows.locator("td").all_inner_texts()]
    assert sum(map(float, shown)) == total > 0


def test_todays_number_rises_without_reload_and_the_table_stays_open(filled: Home, open_page: Open) -> None:
    # The other events may be yesterday's, shortly after midnight.
    filled.post("financial", transaction("today", datetime.now(UTC)))
    page = open_page()
    wait_for_data(page)
    form = page.locator("#metrics-form")
    form.locator("[name=stream]").select_option("financial")
    form.locator("[name=metric]").select_option("transactions")
    form.locator("[name=by]").select_option("")
    number = page.locator("#metrics-chart .legend-values output")
    expect(page.locator("#metrics-chart .legend-values .when")).to_have_text(f"{datetime.now(UTC).date()}")
    expect(number).to_have_count(1)
    before = int(number.inner_text().replace(",", ""))
    page.locator("#metrics-chart summary").click()
    filled.post("financial", *(transaction(f"today-{n}", datetime.now(UTC)) for n in range(7)))
    expect(number).to_have_text(f"{before + 7:,}")
    expect(page.locator("#metrics-chart tbody tr").first.locator("td")).to_have_text(f"{before + 7:,}")


def test_new_alert_appears_without_reload(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    filled.post("financial", transaction("new", datetime.now(UTC), amount="123456.78", account_id=HTML))
    filled.refresh_realtime("financial")
    alert = page.locator("#alerts-list li", has_text="123456.78 EUR")
    expect(alert).to_contain_text(HTML)
    expect(alert.locator(".severity")).to_have_text("critical")
    expect(page.locator("#alerts-announced")).to_contain_text("new alert")
    page.locator("#alerts-form [name=stream]").select_option("iot")
    expect(alert).to_have_count(0)
    assert page.title() == "Lakehouse"


def test_quarantine_shows_reasons_and_raw_rows(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    page.locator("#quarantine-form [name=stream]").select_option("iot")
    report = httpx.get(f"{filled.url}/v1/quarantine/iot").json()
    expect(page.locator("#quarantine-count")).to_have_text(f"{report['rows']} rows of iot")
    expect(page.locator("#reasons button")).to_have_count(len(report["reasons"]))
    first = report["reasons"][0]
    button = page.locator("#reasons button").first
    expect(button).to_contain_text(first["reason"])
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#samples pre")).to_have_count(min(20, first["rows"]))
    for reasons in page.locator("#samples li ul").all_inner_texts():
        assert first["reason"].rstrip("…") in reasons
    expect(page.locator("#quarantine-recent")).to_be_empty()
    filled.post("iot", {"event_id": "broken"})
    expect(page.locator("#quarantine-recent")).to_contain_text("break the contract")
    arrived = httpx.get(f"{filled.url}/v1/quarantine/iot").json()["arrived"]
    assert arrived["broken"] == 1 <= arrived["events"]
    button.click()
    newest_sample = page.locator("#samples > li").first
    expect(newest_sample).to_contain_text('"event_id":"broken"')
    expect(newest_sample).to_contain_text("just arrived")


def test_partition_grid_works_by_keyboard(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    grid = httpx.get(f"{filled.url}/v1/overview/partitions", params={"days": 2}).json()
    row = [stream["stream"] for stream in grid["streams"]].index("financial")
    page.locator("#grid tbody tr").nth(row).locator(".cell").last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    ledger = grid["streams"][row]["ledgers"][0]
    assert ledger["landed"] == ledger["silver"] + ledger["quarantined"] + ledger["duplicates"] > 0
    detail = page.locator("#partition")
    expect(detail).to_contain_text(f"financial, {grid['days'][0]}")
    expect(detail).to_contain_text(f"{ledger['landed']} landed = {ledger['silver']} in silver")
    expect(detail.locator("tbody tr")).to_have_count(6)
    selected = page.locator("#grid [aria-selected=true]")
    expect(selected).to_be_focused()
    assert grid["days"][0] in (selected.get_attribute("aria-label") or "")
    page.locator("#partitions-form [name=layer]").select_option("silver")
    page.locator("#partitions-earlier").click()
    expect(page.locator("#partitions-range")).not_to_contain_text(grid["days"][-1])


def test_sql_shows_table_and_chart_and_saves_csv(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    statement = "select dt, count(*) as n, max(amount) as amount from silver.financial group by dt order by dt"
    page.locator("#sql-text").fill(statement)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sql-state")).to_have_text(re.compile(r"^\d+ rows in "))
    response = httpx.post(f"{filled.url}/v1/query", json={"sql": statement}).json()
    rows = [[str(row[name]) for name in ("dt", "n", "amount")] for row in response["rows"]]
    shown = page.locator("#sql-result tbody tr")
    assert [shown.nth(index).locator("td").all_inner_texts() for index in range(len(rows))] == rows
    expect(page.locator("#sql-chart canvas")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#sql-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [line.split(",") for line in lines] == [["dt", "n", "amount"], *rows]
    page.locator("#sql-text").fill("select '=1+1' as formula, -1 as n, -1.5::decimal(3,1) as d")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sql-result td").first).to_have_text("=1+1")
    with page.expect_download() as download:
        page.locator("#sql-csv").click()
    assert Path(download.value.path()).read_text().splitlines() == ["formula,n,d", "'=1+1,-1,-1.5"]
    page.locator("#sql-text").fill(f"select '{HTML}' as html, 2 as n union all select null, 1 order by n desc")
    page.locator("#sql-form button[type=submit]").click()
    expect(page.locator("#sql-result td").first).to_have_text(HTML)
    expect(page.locator("#sql-chart .bars th").first).to_have_text(HTML)
    assert page.title() == "Lakehouse"


def test_sql_error_moves_cursor_to_its_position(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    statement = "select amount,\n  nothing_such\nfrom silver.financial"
    page.locator("#sql-text").fill(statement)
    page.locator("#sql-form button[type=submit]").click()
    error = page.locator("#sql-error")
    expect(error).to_contain_text("LINE 2:")
    expect(page.locator("#sql-text")).to_be_focused()
    assert page.evaluate("document.getElementById('sql-text').selectionStart") == statement.index("nothing_such")
    page.locator("#sql-text").fill("delete from silver.financial")
    page.keyboard.press("Control+Enter")
    expect(error).to_contain_text("Only reading is allowed")


def test_page_asks_for_api_key_and_keeps_it_for_the_tab(filled: Home, open_page: Open) -> None:
    page = open_page()
    wait_for_data(page)
    page.evaluate("sessionStorage.setItem('lakehouse-key', 'lh_00000000_wrong')")
    page.reload()
    dialog = page.locator("#key-dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text("unknown or revoked")
    _, key = filled.key("query")
    dialog.locator("[name=key]").fill(key)
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("live")
    expect(dialog).not_to_be_visible()
    wait_for_data(page)
    assert page.evaluate("sessionStorage.getItem('lakehouse-key')") == key


def test_theme_follows_system_until_chosen(filled: Home, open_page: Open) -> None:
    page = open_page(dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_text("Theme: light")
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == light


@pytest.mark.parametrize(("width", "dark"), [(360, True), (800, False), (1400, True), (1400, False)])
def test_page_is_accessible_at_any_width(filled: Home, open_page: Open, width: int, dark: bool) -> None:
    page = open_page(width=width, dark=dark, bypass_csp=True)  # axe is injected into the page
    wait_for_data(page)
    page.locator("#metrics-chart summary").click()
    page.locator("#grid .cell.materialised").last.click()
    expect(page.locator("#partition h3")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()


VENDOR = Path(lakehouse.serving.__path__[0]) / "page" / "vendor"


def test_vendored_uplot_matches_its_readme() -> None:
    version = re.search(r"\| ([\d.]+) \| MIT", (VENDOR / "README.md").read_text())
    assert version
    assert f"(v{version[1]})" in (VENDOR / "uplot" / "uPlot.esm.js").read_text()
    assert "MIT" in (VENDOR / "uplot" / "LICENSE").read_text()


def test_vendored_dagre_matches_its_readme() -> None:
    version = re.search(r"dagre \| ([\d.]+) \| MIT", (VENDOR / "README.md").read_text())
    assert version
    assert f'"{version[1]}"' in (VENDOR / "dagre" / "dagre.esm.js").read_text()
    assert "Chris Pettitt" in (VENDOR / "dagre" / "LICENSE").read_text()


def test_vendored_swagger_ui_matches_its_readme() -> None:
    version = re.search(r"\| ([\d.]+) \| Apache-2.0", (VENDOR / "README.md").read_text())
    assert version
    assert f'"{version[1]}"' in (VENDOR / "swagger-ui" / "swagger-ui-bundle.js").read_text()
    assert "Apache License" in (VENDOR / "swagger-ui" / "LICENSE").read_text()


def test_api_page_shows_and_sends_requests_of_every_route(filled: Home, open_page: Open) -> None:
    page = open_page(path="/schema")
    for summary in ("Run SQL", "List tables and views"):
        expect(page.get_by_text(summary, exact=True)).to_be_visible()
    page.get_by_text("List tables and views", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text("gold.daily_metrics")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "catalog",
        "dashboards/money",
        "schema",
        "schema/none",
        "schema/openapi.json",
        "none",
        "v1/tables",
        "health/live",
    ],
)
def test_every_response_forbids_other_hosts_and_guessed_types(home: Home, path: str) -> None:
    running = serving.running(home.settings)
    assert running is not None
    for url in (home.url, running.url):
        response = httpx.get(f"{url}/{path}")
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert len(response.headers.get_list("content-security-policy")) == 1
        assert not re.search(r"(src|href)=.?(https?:)?//", response.text)


def test_static_files_have_strict_headers_and_etags(home: Home) -> None:
    response = httpx.get(home.url)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    head = httpx.head(home.url)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", response.headers["etag"])
    script = httpx.get(f"{home.url}/static/js/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    cached = httpx.get(f"{home.url}/static/js/app.js", headers={"if-none-match": script.headers["etag"]})
    assert (cached.status_code, cached.content) == (304, b"")
    for path in ("static/../api/app.py", "static/%2e%2e/api/app.py", "static/routes.py", "static/", "static/none.js"):
        assert httpx.get(f"{home.url}/{path}").status_code == 404


assert DAYS > 2, "the tests above read the day before the newest"
assert set(STREAMS) >= {"financial", "iot"}
