// Run SQL: show the rows as a table, and as a chart if they have numbers.

import { createChart } from "./chart.js";
import { byId, h, setText } from "./dom.js";
import { count, duration, plural } from "./format.js";
import { barTable, isNumeric, isTimeColumn, originLinks, resultTable, seconds, text } from "./result.js";
import { query } from "./run.js";

const MAX_SHOWN_ROWS = 500;
const MAX_SERIES = 8;
const MAX_BARS = 30;
const EXAMPLES = {
  "Largest transactions": "select event_time, account_id, amount, currency, status\nfrom silver.financial\norder by amount desc\nlimit 20",
  "Revenue by day": "select dt, sum(net_revenue) as net_revenue, sum(invoices) as invoices\nfrom gold.retail_daily\ngroup by dt\norder by dt",
  "Events by type, including the last hours": "select event_type, count(*) as events\nfrom serving.unified_clickstream\ngroup by event_type\norder by events desc",
  "Errors by service": "select service, sum(events) as errors\nfrom gold.logs_daily\nwhere level in ('ERROR', 'FATAL')\ngroup by service\norder by errors desc",
  "Why rows were rejected": "select unnest(reasons) as reason, count(*) as rows\nfrom quarantine.iot\ngroup by reason\norder by rows desc",
  "Latest state of each order": "select status, count(*) as orders, sum(amount) as amount\nfrom serving.orders_current\ngroup by status\norder by orders desc",
};
const FORMULA_START = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

let form, chart, running = null, timer = null, result = null;

export function startSql() {
  form = byId("sql-form");
  chart = createChart(byId("sql-chart"));
  form.example.append(...Object.keys(EXAMPLES).map((name) => h("option", {}, name)));
  form.sql.value = Object.values(EXAMPLES)[0];
  form.example.addEventListener("change", () => {
    if (form.example.value) form.sql.value = EXAMPLES[form.example.value];
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  form.sql.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      run();
    }
  });
  byId("sql-stop").addEventListener("click", () => running?.abort());
  byId("sql-csv").addEventListener("click", save);
}

async function run() {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  const started = performance.now();
  setBusy(true);
  clearInterval(timer);
  timer = setInterval(() => setText(byId("sql-state"), `running for ${duration((performance.now() - started) / 1000)}`), 1000);
  try {
    const found = await query(form.sql.value, { signal: controller.signal });
    if (running === controller) show(found);
  } catch (error) {
    if (running !== controller) return;
    if (error.name === "AbortError") setText(byId("sql-state"), "stopped");
    else showError(error);
  } finally {
    if (running === controller) {
      running = null;
      clearInterval(timer);
      setBusy(false);
    }
  }
}

function setBusy(isBusy) {
  byId("sql-stop").hidden = !isBusy;
  if (isBusy) {
    setText(byId("sql-state"), "running");
    byId("sql-error").hidden = true;
    form.sql.removeAttribute("aria-invalid");
  }
}

/** Show DuckDB's message, and move the text cursor to the position it points at. */
function showError(error) {
  result = null;
  chart.clear();
  byId("sql-result").hidden = byId("sql-csv").hidden = true;
  byId("sql-origin").replaceChildren();
  setText(byId("sql-state"), "");
  byId("sql-error").replaceChildren(h("pre", {}, error.message));
  byId("sql-error").hidden = false;
  form.sql.setAttribute("aria-invalid", "true");
  const position = errorPosition(error.message);
  if (position === null) return;
  form.sql.focus();
  form.sql.setSelectionRange(position, position);
}

/** The offset in the statement that DuckDB's message points at: "LINE 2: …", then a line with a caret under the position. */
function errorPosition(message) {
  const match = /^LINE (\d+): (.*)\n( *)\^/m.exec(message);
  if (!match) return null;
  const [, number, quoted, indent] = match;
  const lines = form.sql.value.split("\n");
  const line = lines[Number(number) - 1];
  if (line === undefined) return null;
  const before = lines.slice(0, Number(number) - 1).reduce((offset, text) => offset + text.length + 1, 0);
  // The message quotes only a part of a long line.
  const excerpt = quoted.replace(/^\.\.\./, "").replace(/\.\.\.$/, "");
  const column = indent.length - `LINE ${number}: `.length - (quoted.startsWith("...") ? 3 : 0) + Math.max(0, line.indexOf(excerpt));
  return before + Math.min(Math.max(0, column), line.length);
}

function show(newResult) {
  result = newResult;
  const { columns, rows, statistics } = result;
  const { seconds: taken, truncated } = statistics;
  const took = taken < 1 ? `${Math.round(taken * 1000)} ms` : duration(taken);
  setText(byId("sql-state"), `${truncated ? "the first " : ""}${plural(rows.length, "row")} in ${took}`);
  const numeric = columns.map(isNumeric);
  const box = byId("sql-result");
  box.hidden = false;
  byId("sql-csv").hidden = rows.length === 0;
  box.replaceChildren(
    resultTable("Query result", columns, rows.slice(0, MAX_SHOWN_ROWS)),
    ...(rows.length > MAX_SHOWN_ROWS ? [h("p", { class: "aside" }, `The first ${count(MAX_SHOWN_ROWS)} rows are shown. The CSV file has all of them.`)] : []));
  byId("sql-origin").replaceChildren(...originLinks(Object.keys(statistics.snapshots)));
  drawChart(columns, rows, numeric);
}

function drawChart(columns, rows, numeric) {
  const first = columns[0];
  const valueColumns = columns.map((_, index) => index).filter((index) => index > 0 && numeric[index]).slice(0, MAX_SERIES);
  if (rows.length < 2 || !valueColumns.length) return chart.clear();
  const series = (ordered) => valueColumns.map((index) => ({
    name: columns[index].name,
    values: ordered.map((row) => (row[index] === null ? null : Number(row[index]))),
  }));
  const title = `${valueColumns.map((index) => columns[index].name).join(", ")} by ${first.name}`;
  const isTime = isTimeColumn(first);
  if (isTime || numeric[0]) {
    const x = (row) => (isTime ? seconds(row[0]) : Number(row[0]));
    const ordered = rows.filter((row) => row[0] !== null).sort((a, b) => x(a) - x(b));
    // Rows that share an x value cannot be drawn as a line.
    if (new Set(ordered.map(x)).size < ordered.length) return chart.clear();
    return chart.draw({ title, isTime, x: ordered.map(x), labels: ordered.map((row) => text(row[0])), series: series(ordered) });
  }
  if (valueColumns.length > 1 || rows.length > MAX_BARS) return chart.clear();
  chart.clear(barTable(title, rows.map((row) => [row[0], row[valueColumns[0]]])));
}

/** Save the result as CSV (RFC 4180). Text that a spreadsheet would run as a formula gets a `'` before it. */
function save() {
  const isText = result.columns.map((column) => column.type === "VARCHAR");
  const csvValue = (value, escape) => {
    const plain = `${escape && FORMULA_START.test(value ?? "") ? "'" : ""}${value === null ? "" : text(value)}`;
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  const header = result.columns.map((column) => csvValue(column.name, true));
  const lines = [header, ...result.rows.map((row) => row.map((value, index) => csvValue(value, isText[index])))];
  const url = URL.createObjectURL(new Blob([`${lines.map((cells) => cells.join(",")).join("\r\n")}\r\n`], { type: "text/csv" }));
  h("a", { href: url, download: "result.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
