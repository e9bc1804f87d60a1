"""The catalog and dashboards: over HTTP, and in a browser at three widths."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect

from lakehouse_tests.serving.page.conftest import FILES, Home, Open, transaction
from lakehouse_tests.waiting import until


def _page(api: httpx.Client, name: str) -> Any:
    response = api.get(f"/v1/catalog/{name.replace('.', '/')}")
    assert response.status_code == 200, response.text
    return response.json()


def test_catalog_lists_every_entry_with_columns_and_sizes(filled: Home, api: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in api.get("/v1/catalog").json()}
    assert {table["name"] for table in api.get("/v1/tables").json()} <= entries.keys()
    assert {"queries.payments", "queries.daily_metrics", "lookups.customers", "dashboards.money"} <= entries.keys()
    assert all(entry["description"] for entry in entries.values())
    assert {name for name, entry in entries.items() if not entry["columns"]} == {"dashboards.money"}
    silver, model = entries["silver.financial"], entries["gold.payments"]
    table = filled.lake.tables.load("silver.financial")
    summary = table.current_snapshot().summary.additional_properties  # type: ignore[union-attr]
    assert silver["rows"] == int(summary["total-records"]) > 0
    assert [column["name"] for column in silver["columns"]] == [field.name for field in table.schema().fields]
    assert (model["kind"], model["description"], model["reads"]) == (
        "model",
        "Payments by currency and day.",
        ["silver.financial"],
    )
    said = {
        (name, column["name"]): column.get("description")
        for name in (
            "gold.payments",
            "gold.iot_daily",
            "serving.live_iot_daily",
            "serving.iot_features",
            "serving.live_payments",
        )
        for column in entries[name]["columns"]
    }
    assert said["gold.payments", "payments"] == "Number of payments."
    assert said["gold.iot_daily", "readings"] == said["serving.live_iot_daily", "readings"] == "Number of readings."
    assert entries["serving.live_payments"]["description"].endswith("not hold yet. Payments by currency and day.")
    assert entries["serving.live_payments"]["reads"] == ["gold.payments", "silver.financial"]
    assert said["serving.live_payments", "payments"] == "Number of payments."
    assert said["serving.iot_features", "readings_7d"] == "Number of readings, in the 7 days up to it."
    for name, entry in entries.items():
        assert set(entry["reads"]) <= entries.keys() - {name}


def test_entry_has_lineage_state_checks_and_contract(filled: Home, api: httpx.Client) -> None:
    silver, model = _page(api, "silver.financial"), _page(api, "gold.payments")
    columns = {column["name"]: column for column in silver["columns"]}
    assert columns["account_id"]["sources"] == ["bronze.financial.account_id"]
    assert "gold.payments.an_account" in columns["account_id"]["readers"]
    assert ["silver.financial", "gold.payments"] in silver["lineage"]["edges"]
    assert {"bronze.financial", "queries.payments", "serving.live_daily_metrics", "dashboards.money"} <= {
        *silver["lineage"]["nodes"]
    }
    state = model["state"]
    assert (state["stale"], len(state["snapshots"])) == (0, 1)
    assert state["snapshots"][0]["rows"] == state["snapshots"][0]["added"] == model["entry"]["rows"]
    assert {check["name"]: check["passed"] for check in model["checks"]} == {"key": None, "not_null": None}
    assert "name: financial" in silver["contract"]["text"]
    assert len(silver["contract"]["versions"]) == 1
    assert (model["chart"]["kind"], model["chart"]["by"]) == ("line", "currency")
    assert model["sql"] == FILES["models/gold/payments.sql"]
    metrics = _page(api, "queries.daily_metrics")
    assert (metrics["request"], metrics["parameters"][0]["required"]) == ("/v1/queries/daily_metrics", True)
    assert _page(api, "lookups.customers")["request"] == "/v1/lookups/customers/{customer_id}"
    for name in ("queries.payments", "lookups.customers", "gold.daily_metrics", "serving.unified_iot", "bronze.iot"):
        assert _page(api, name)["entry"]["name"] == name


def test_column_is_followed_to_its_first_source_and_last_reader(filled: Home, api: httpx.Client) -> None:
    lineage = api.get("/v1/catalog/silver/financial/lineage", params={"column": "account_id"}).json()
    assert ["bronze.financial.account_id", "silver.financial.account_id"] in lineage["edges"]
    assert "gold.payments.an_account" in lineage["nodes"]
    assert not any(".currency" in node for node in lineage["nodes"])
    missing = api.get("/v1/catalog/silver/financial/lineage", params={"column": "no"})
    assert (missing.status_code, "there are event_id, " in missing.text) == (404, True)
    nearest = api.get("/v1/catalog/silver/financal")
    assert (nearest.status_code, "silver.financial" in nearest.text) == (404, True)


def test_key_for_one_stream_sees_the_catalog_of_that_stream(filled: Home, api: httpx.Client) -> None:
    _, text = filled.key("query", streams=("iot",))
    headers = {"authorization": f"Bearer {text}"}
    names = {entry["name"] for entry in api.get("/v1/catalog", headers=headers).json()}
    assert {table["name"] for table in api.get("/v1/tables", headers=headers).json()} <= names
    assert names - {entry["name"] for entry in api.get("/v1/catalog").json() if entry["stream"] == "iot"} == set()
    page = api.get("/v1/catalog/silver/iot", headers=headers)
    assert "financial" not in page.text
    assert "daily_metrics" not in page.text
    for path in ("silver/financial", "gold/payments", "queries/payments", "gold/daily_metrics"):
        assert api.get(f"/v1/catalog/{path}", headers=headers).status_code == 403
    assert api.get("/v1/dashboards", headers=headers).json() == []
    assert api.get("/v1/dashboards/money", headers=headers).status_code == 404


def test_key_for_one_stream_reads_models_over_that_stream(filled: Home, api: httpx.Client) -> None:
    for streams, is_readable in (("financial",), True), (("iot",), False), (("iot", "retail"), False):
        _, text = filled.key("query", streams=streams)
        headers = {"authorization": f"Bearer {text}"}
        named = api.get("/v1/queries/payments", headers=headers)
        answer = api.post("/v1/query", headers=headers, json={"sql": "select count(*) as n from gold.payments"})
        live = api.post(
            "/v1/query", headers=headers, json={"sql": "select sum(payments) as n from serving.live_payments"}
        )
        assert (live.status_code == 200) is is_readable, live.text
        assert (named.status_code == 200) is (answer.status_code == 200) is is_readable, (named.text, answer.text)
        assert (
            "gold.payments" in {table["name"] for table in api.get("/v1/tables", headers=headers).json()}
        ) is is_readable


def test_live_model_has_an_event_in_seconds_and_follows_its_file(filled: Home, api: httpx.Client) -> None:
    def ask(column: str = "payments") -> Any:
        answer = api.post("/v1/query", json={"sql": f"select sum({column}) as n from serving.live_payments"})
        return answer.json()["rows"][0]["n"] if answer.status_code == 200 else answer.text

    before = ask()
    filled.post("financial", transaction("live-model", datetime.now(UTC)))
    until(lambda: ask() == before + 1, seconds=30)
    file = filled.settings.models[0] / "gold" / "payments.sql"
    text = file.read_text()
    file.write_text(text.replace("count(*) as", "10 * count(*) as"))
    try:
        until(lambda: ask() == 10 * (before + 1), seconds=30)
    finally:
        file.write_text(text)
    until(lambda: ask() == before + 1, seconds=30)


def test_last_results_of_checks_are_those_of_dagster(filled: Home, api: httpx.Client) -> None:
    history = filled.settings.root / "dagster" / "history"
    history.mkdir(parents=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{history / 'event_log.db'}")
    columns = (
        "id integer primary key, asset_key text, check_name text, execution_status text, evaluation_event_timestamp"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create table asset_check_executions ({columns} datetime)")
        for number, (check, status) in enumerate(
            [("key", "FAILED"), ("key", "SUCCEEDED"), ("mine", "FAILED"), ("key", "PLANNED")]
        ):
            connection.exec_driver_sql(
                "insert into asset_check_executions values (?, '[\"gold\", \"payments\"]', ?, ?, '2026-01-02 03:04:05.000000')",
                (number, check, status),
            )
    engine.dispose()
    checks = {check["name"]: check for check in _page(api, "gold.payments")["checks"]}
    assert {name: check["passed"] for name, check in checks.items()} == {"key": True, "not_null": None, "mine": False}
    assert checks["key"]["at"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("path", "shown", "widths"),
    [
        ("/catalog", ".entries", (375, 768, 1440)),
        ("/catalog/gold/payments", "#sample-rows tbody", (1440, 768, 375)),
        ("/catalog/queries/daily_metrics?p.stream=iot", "#query-rows tbody", (1440, 768, 375)),
        ("/dashboards/money", ".result", (1440, 768, 375)),
    ],
)
def test_page_is_accessible_and_fits_three_widths(
    filled: Home, open_page: Open, path: str, shown: str, widths: tuple[int, ...]
) -> None:
    dark = widths[-1] == 375
    page = open_page(path, width=widths[0], dark=dark, bypass_csp=True)  # axe is injected into the page
    expect(page.locator(shown).first).to_be_visible()
    if path.endswith(("payments", "money")):
        expect(page.locator("canvas")).to_be_visible()
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        # A chart follows the width in the next frame.
        page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, results.generate_report()


def test_search_finds_names_columns_and_descriptions(filled: Home, open_page: Open) -> None:
    page = open_page("/catalog")
    expect(page.locator(".entries").first).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("an_account")
    expect(page.locator(".entries tbody th")).to_have_text(["gold.payments", "serving.live_payments"])
    expect(page.locator(".columns-found").first).to_have_text("Column: an_account")
    page.locator("#search").fill("payments by currency")
    expect(page.locator(".entries tbody th").first).to_have_text("gold.payments")
    page.locator("#search").fill("no such thing")
    expect(page.locator("#results")).to_have_text("Nothing has all of these words.")
    assert page.url.endswith("?q=no%20such%20thing")


def test_number_leads_to_its_source_in_two_clicks(filled: Home, open_page: Open) -> None:
    page = open_page()
    page.locator("#metrics-origin a").click()
    expect(page.locator("h1")).to_have_text(re.compile(r"serving\.live_\w+_daily view"))
    page.locator(".lineage a[aria-label^='gold.']").first.click()
    expect(page.locator("h1")).to_have_text(re.compile(r"gold\.\w+_daily table"))
    page.locator("#lineage-form select").select_option("dt")
    expect(page.locator(".lineage .current")).to_contain_text(".dt")
    source = page.locator(".lineage a[aria-label^='silver.']")
    source.focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(re.compile(r"silver\.\w+ table"))
    expect(page.locator("#lineage-form select")).to_have_value("dt")


def test_named_query_is_drawn_by_its_chart(filled: Home, open_page: Open) -> None:
    page = open_page("/catalog/queries/payments")
    rows = httpx.get(f"{filled.url}/v1/queries/payments").json()["rows"]
    expect(page.locator("#chart-figure .bars tbody tr")).to_have_count(len(rows))
    expect(page.locator("#sample")).to_have_count(0)


def test_named_query_is_run_by_a_form_of_its_parameters(filled: Home, open_page: Open) -> None:
    page = open_page("/catalog/queries/daily_metrics")
    status = page.locator("#query-form [role=status]")
    expect(status).to_have_text("Needs stream.")
    page.get_by_label("stream", exact=True).fill("iot")
    page.get_by_label("metric", exact=True).fill("readings")
    page.get_by_role("button", name="Run").click()
    expect(status).to_have_text(re.compile(r"^[\d,]+ rows"))
    expect(page.locator("#query-rows tbody tr").first).to_contain_text("readings")
    assert "p.stream=iot" in page.url
    page.reload()
    expect(page.locator("#query-rows tbody tr").first).to_contain_text("readings")
    page.get_by_label("days", exact=True).fill("0")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#query-rows")).to_contain_text("days: 0 is less than 1.")


def test_dashboard_shows_text_charts_and_errors_in_place_and_follows_its_file(filled: Home, open_page: Open) -> None:
    page = open_page("/dashboards/money")
    expect(page.locator("nav a[aria-current=page]")).to_have_text("Money")
    expect(page.locator(".prose").first).to_contain_text("Payments by currency. <b>no</b>")
    expect(page.locator("section canvas")).to_be_visible()
    expect(page.locator(".error")).to_have_text("There is no column nothing; there are something.")
    expect(page.locator(".result td")).to_have_text("<img src=x onerror=alert(1)>")
    file = Path(filled.settings.dashboards[0], "money.md")
    file.write_text("# Other money\n\n```sql\n-- chart: number y=n\nselect 41 + 1 as n\n```\n")
    try:
        expect(page.locator("h1")).to_have_text("Other money")
        expect(page.locator(".totals dd")).to_have_text("42")
    finally:
        file.write_text(FILES["dashboards/money.md"])
