"""Somebody opens the page, sees what flows, and works with it by mouse and by keyboard."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

import lakehouse.serving
from lakehouse_tests.serving.page.conftest import DAYS, STREAMS, Home, Open, transaction

NOTHING = "\u2013"
HTML = '<img src=x onerror="document.title=1"><script>document.title=1</script>'

expect.set_options(timeout=30_000)


def shows_data(page: Page) -> None:
    """Wait until every section has something."""
    expect(page.locator("#flow tr")).to_have_count(7)
    expect(page.locator("#numbers-chart canvas")).to_be_visible()
    expect(page.locator("#reasons button").first).to_be_visible()
    expect(page.locator("#grid .cell.materialised").first).to_be_visible()


def test_an_empty_lakehouse_says_what_to_do(empty_sight: str, empty_overview: Any) -> None:
    assert "Nothing has arrived yet" in empty_sight
    assert "lakehouse generate --rate 200" in empty_sight
    assert [one["newest_at"] for one in empty_overview["streams"]] == [None] * 7


def test_what_flows_is_shown_and_goes_on_without_a_reload(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    expect(page.locator("#connection")).to_have_text("live")
    overview = httpx.get(f"{filled.url}/v1/overview").json()
    assert [one["stream"] for one in overview["streams"]] == page.locator("#flow th").all_inner_texts()
    row = page.locator("#flow tr", has_text="iot")
    expect(row.locator("[data-label=Newest]")).not_to_have_text(NOTHING)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    filled.post(
        "iot", *[{"event_id": "fresh", "event_time": now, "device_id": "d", "metric": "humidity", "value": 40}] * 50
    )
    expect(row.locator("[data-label='Events/s']")).not_to_have_text("0")
    expect(row.locator("[data-label=Newest]")).to_have_text(re.compile(r"^\d\.\d s$"))


def test_the_days_numbers_are_a_chart_that_keys_walk_over_and_a_table(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    form = page.locator("#numbers-form")
    form.locator("[name=stream]").select_option("financial")
    form.locator("[name=metric]").select_option("transactions")
    form.locator("[name=by]").select_option("currency")
    form.locator("[name=days]").select_option("7")
    known = httpx.get(f"{filled.url}/v1/overview/metrics/financial").json()
    span = {"first": known["first_day"], "last": known["last_day"], "by": "currency"}
    numbers = httpx.get(f"{filled.url}/v1/overview/metrics/financial/transactions", params=span).json()
    newest = {one["name"]: one["values"][-1] for one in numbers["series"]}
    key = page.locator("#numbers-chart .key")
    for name, value in newest.items():
        expect(key).to_contain_text(f"{name} {NOTHING if value is None else f'{value:,.0f}'}")
    page.locator("#numbers-chart .plot").focus()
    page.keyboard.press("ArrowLeft")
    expect(key.locator(".when")).to_have_text(numbers["days"][-2])
    expect(page.locator("#numbers-chart [aria-live]")).to_contain_text(f"{numbers['days'][-2]}: ")
    page.locator("#numbers-chart summary").click()
    rows = page.locator("#numbers-chart tbody tr")
    expect(rows.first.locator("th")).to_have_text(numbers["days"][-1])
    total = sum(value or 0 for one in numbers["series"] for value in one["values"])
    shown = [cell.replace(",", "").replace(NOTHING, "0") for cell in rows.locator("td").all_inner_texts()]
    assert sum(map(float, shown)) == total > 0


def test_a_new_alert_comes_up_by_itself(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    filled.post("financial", transaction("new", datetime.now(UTC), amount="123456.78", account_id=HTML))
    filled.refresh_realtime("financial")
    alert = page.locator("#alerts-list li", has_text="123456.78 EUR")
    expect(alert).to_contain_text(HTML)
    expect(alert.locator(".severity")).to_have_text("critical")
    expect(page.locator("#alerts-said")).to_contain_text("new alert")
    page.locator("#alerts-form [name=stream]").select_option("iot")
    expect(alert).to_have_count(0)
    assert page.title() == "Lakehouse"


def test_quarantine_shows_reasons_and_what_arrived_as_it_is(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    page.locator("#quarantine-form [name=stream]").select_option("iot")
    found = httpx.get(f"{filled.url}/v1/quarantine/iot").json()
    expect(page.locator("#quarantine-count")).to_have_text(f"{found['rows']} rows of iot")
    expect(page.locator("#reasons button")).to_have_count(len(found["reasons"]))
    first = found["reasons"][0]
    button = page.locator("#reasons button").first
    expect(button).to_contain_text(first["reason"])
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#samples pre")).to_have_count(min(20, first["rows"]))
    for reasons in page.locator("#samples li ul").all_inner_texts():
        assert first["reason"].rstrip("…") in reasons
    expect(page.locator("#quarantine-arrives")).to_be_empty()
    filled.post("iot", {"event_id": "broken"})
    expect(page.locator("#quarantine-arrives")).to_contain_text("breaks its contract")
    arrived = httpx.get(f"{filled.url}/v1/quarantine/iot").json()["arrived"]
    assert arrived["broken"] == 1 <= arrived["events"]
    button.click()
    newest = page.locator("#samples > li").first
    expect(newest).to_contain_text('"event_id":"broken"')
    expect(newest).to_contain_text("just arrived")


def test_partitions_are_walked_with_the_keyboard(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    grid = httpx.get(f"{filled.url}/v1/overview/partitions", params={"days": 2}).json()
    at = [one["stream"] for one in grid["streams"]].index("financial")
    page.locator("#grid tbody tr").nth(at).locator(".cell").last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    ledger = grid["streams"][at]["ledgers"][0]
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


def test_sql_gives_a_table_a_chart_and_a_file(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
    statement = "select dt, count(*) as n, max(amount) as amount from silver.financial group by dt order by dt"
    page.locator("#sql-text").fill(statement)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sql-state")).to_have_text(re.compile(r"^\d+ rows in "))
    answer = httpx.post(f"{filled.url}/v1/query", json={"sql": statement}).json()
    rows = [[str(row[name]) for name in ("dt", "n", "amount")] for row in answer["rows"]]
    shown = page.locator("#sql-result tbody tr")
    assert [shown.nth(at).locator("td").all_inner_texts() for at in range(len(rows))] == rows
    expect(page.locator("#sql-chart canvas")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#sql-csv").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert [line.split(",") for line in lines] == [["dt", "n", "amount"], *rows]
    page.locator("#sql-text").fill(f"select '{HTML}' as html, 2 as n union all select null, 1 order by n desc")
    page.locator("#sql-form button[type=submit]").click()
    expect(page.locator("#sql-result td").first).to_have_text(HTML)
    expect(page.locator("#sql-chart .bars th").first).to_have_text(HTML)
    assert page.title() == "Lakehouse"


def test_an_error_in_sql_is_shown_with_its_place(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
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


def test_a_key_is_asked_for_where_one_is_needed_and_kept_for_the_tab(filled: Home, open_page: Open) -> None:
    page = open_page()
    shows_data(page)
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
    shows_data(page)
    assert page.evaluate("sessionStorage.getItem('lakehouse-key')") == key


def test_dark_and_light_by_the_system_and_by_choice(filled: Home, open_page: Open) -> None:
    page = open_page(dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    expect(page.locator("#theme")).to_have_text("Theme: light")
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize(("width", "dark"), [(360, True), (800, False), (1400, True), (1400, False)])
def test_it_is_readable_at_any_width_and_by_a_screen_reader(
    filled: Home, open_page: Open, width: int, dark: bool
) -> None:
    page = open_page(width=width, dark=dark, bypass_csp=True)  # axe is put into the page
    shows_data(page)
    page.locator("#numbers-chart summary").click()
    page.locator("#grid .cell.materialised").last.click()
    expect(page.locator("#partition h3")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


def test_the_chart_library_is_the_one_that_is_named() -> None:
    folder = Path(lakehouse.serving.__path__[0]) / "page" / "vendor"
    named = re.search(r"\| ([\d.]+) \| MIT", (folder / "README.md").read_text())
    assert named
    assert f"(v{named[1]})" in (folder / "uplot" / "uPlot.esm.js").read_text()
    assert "MIT" in (folder / "uplot" / "LICENSE").read_text()


def test_what_a_browser_may_do_with_the_page_is_said_strictly(home: Home) -> None:
    answer = httpx.get(home.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    head = httpx.head(home.url)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])
    script = httpx.get(f"{home.url}/static/js/app.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    again = httpx.get(f"{home.url}/static/js/app.js", headers={"if-none-match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("static/../api/page.py", "static/%2e%2e/api/page.py", "static/", "static/nothing.js"):
        assert httpx.get(f"{home.url}/{path}").status_code == 404


assert DAYS > 2, "the tests above look at the day before the newest"
assert set(STREAMS) >= {"financial", "iot"}
