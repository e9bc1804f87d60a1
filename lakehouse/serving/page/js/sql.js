// A statement of one's own: its rows as a table, and as a chart where they have numbers.

import { ask } from "./api.js";
import { chart } from "./chart.js";
import { byId, h, say } from "./dom.js";
import { count, duration, plural } from "./format.js";

const SHOWN = 500;
const LIMIT = 10000;
const SERIES = 8;
const BARS = 30;
const EXAMPLES = {
  "Largest transactions": "select event_time, account_id, amount, currency, status\nfrom silver.financial\norder by amount desc\nlimit 20",
  "Revenue by day": "select dt, sum(net_revenue) as net_revenue, sum(invoices) as invoices\nfrom gold.retail_daily\ngroup by dt\norder by dt",
  "Events by kind, the last hours too": "select event_type, count(*) as events\nfrom serving.unified_clickstream\ngroup by event_type\norder by events desc",
  "Errors by service": "select service, sum(events) as errors\nfrom gold.logs_daily\nwhere level in ('ERROR', 'FATAL')\ngroup by service\norder by errors desc",
  "Why rows were refused": "select unnest(reasons) as reason, count(*) as rows\nfrom quarantine.iot\ngroup by reason\norder by rows desc",
  "Latest state of each order": "select status, count(*) as orders, sum(amount) as amount\nfrom serving.orders_current\ngroup by status\norder by orders desc",
};
const NUMERIC = /^(u?(tiny|small|big|huge)?int(eger)?|float|double|decimal)\b/i;
const TIMELY = /^(date|timestamp)\b/i;

let form, picture, running = null, timer = null, result = null;

export function startSql() {
  form = byId("sql-form");
  picture = chart(byId("sql-chart"));
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
  const mine = new AbortController();
  running = mine;
  const started = performance.now();
  busy(true);
  clearInterval(timer);
  timer = setInterval(() => say(byId("sql-state"), `running for ${duration((performance.now() - started) / 1000)}`), 1000);
  try {
    const answer = await ask("/v1/query", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ sql: form.sql.value, limits: { rows: LIMIT } }),
      signal: mine.signal,
    });
    const { columns, rows, statistics } = await answer.json();
    if (running === mine) show({ columns, statistics, rows: rows.map((row) => columns.map((column) => row[column.name])) });
  } catch (problem) {
    if (running !== mine) return;
    if (problem.name === "AbortError") say(byId("sql-state"), "stopped");
    else refuse(problem);
  } finally {
    if (running === mine) {
      running = null;
      clearInterval(timer);
      busy(false);
    }
  }
}

function busy(yes) {
  byId("sql-stop").hidden = !yes;
  if (yes) {
    say(byId("sql-state"), "running");
    byId("sql-error").hidden = true;
    form.sql.removeAttribute("aria-invalid");
  }
}

/** DuckDB's words, with its caret under the place; the text's own caret goes there too. */
function refuse(problem) {
  result = null;
  picture.clear();
  byId("sql-result").hidden = byId("sql-csv").hidden = true;
  say(byId("sql-state"), "");
  byId("sql-error").replaceChildren(h("pre", {}, problem.message));
  byId("sql-error").hidden = false;
  form.sql.setAttribute("aria-invalid", "true");
  const at = place(problem.message);
  if (at === null) return;
  form.sql.focus();
  form.sql.setSelectionRange(at, at);
}

/** Where in the statement DuckDB's message points: "LINE 2: …", and a caret under the place in the line after it. */
function place(message) {
  const found = /^LINE (\d+): (.*)\n( *)\^/m.exec(message);
  if (!found) return null;
  const lines = form.sql.value.split("\n");
  const line = lines[Number(found[1]) - 1];
  if (line === undefined) return null;
  const before = lines.slice(0, Number(found[1]) - 1).reduce((all, one) => all + one.length + 1, 0);
  // Of a long line the message has a part.
  const shown = found[2].replace(/^\.\.\./, "").replace(/\.\.\.$/, "");
  const column = found[3].length - `LINE ${found[1]}: `.length - (found[2].startsWith("...") ? 3 : 0) + Math.max(0, line.indexOf(shown));
  return before + Math.min(Math.max(0, column), line.length);
}

function show(found) {
  result = found;
  const { columns, rows, statistics } = found;
  const { seconds, truncated } = statistics;
  const took = seconds < 1 ? `${Math.round(seconds * 1000)} ms` : duration(seconds);
  say(byId("sql-state"), `${truncated ? "the first " : ""}${plural(rows.length, "row")} in ${took}`);
  const numeric = columns.map((column) => NUMERIC.test(column.type) && !column.type.endsWith("[]"));
  const box = byId("sql-result");
  box.hidden = false;
  byId("sql-csv").hidden = rows.length === 0;
  box.replaceChildren(
    h("table", { class: "result" },
      h("caption", { class: "hidden" }, "Result of the statement"),
      h("thead", {}, h("tr", {}, ...columns.map((column, at) =>
        h("th", { scope: "col", class: numeric[at] ? "number" : null }, column.name, h("span", { class: "sub" }, column.type.toLowerCase()))))),
      h("tbody", {}, ...rows.slice(0, SHOWN).map((row) =>
        h("tr", {}, ...row.map((value, at) =>
          value === null ? h("td", { class: "null" }, "null") : h("td", { class: numeric[at] ? "number" : null }, text(value))))))),
    ...(rows.length > SHOWN ? [h("p", { class: "aside" }, `${count(SHOWN)} rows are shown; the file has them all.`)] : []));
  plot(columns, rows, numeric);
}

const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function plot(columns, rows, numeric) {
  const first = columns.length ? columns[0] : null;
  const values = columns.map((_, at) => at).filter((at) => at > 0 && numeric[at]).slice(0, SERIES);
  if (rows.length < 2 || !values.length) return picture.clear();
  const series = (ordered) => values.map((at) => ({ name: columns[at].name, values: ordered.map((row) => (row[at] === null ? null : Number(row[at]))) }));
  const title = `${values.map((at) => columns[at].name).join(", ")} by ${first.name}`;
  const time = TIMELY.test(first.type);
  if (time || numeric[0]) {
    const x = (row) => (time ? Date.parse(row[0].length === 10 ? `${row[0]}T00:00:00Z` : row[0]) / 1000 : Number(row[0]));
    const ordered = rows.filter((row) => row[0] !== null).sort((a, b) => x(a) - x(b));
    // Several rows of one place make no line.
    if (new Set(ordered.map(x)).size < ordered.length) return picture.clear();
    return picture.draw({ title, time, x: ordered.map(x), labels: ordered.map((row) => text(row[0])), series: series(ordered) });
  }
  if (values.length > 1 || rows.length > BARS) return picture.clear();
  bars(columns, rows, values[0], title);
}

function bars(columns, rows, at, title) {
  const most = Math.max(...rows.map((row) => Math.abs(Number(row[at] ?? 0))), 1e-300);
  picture.clear(h("table", { class: "bars" },
    h("caption", { class: "hidden" }, title),
    h("tbody", {}, ...rows.map((row) => {
      const bar = h("span", { class: Number(row[at]) < 0 ? "bar negative" : "bar", "aria-hidden": "true" });
      bar.style.width = `${(Math.abs(Number(row[at] ?? 0)) / most) * 100}%`;
      return h("tr", {}, h("th", { scope: "row" }, row[0] === null ? "null" : text(row[0])), h("td", { class: "number" }, row[at] === null ? "null" : text(row[at])), h("td", {}, bar));
    }))));
}

/** The result as RFC 4180 has it. */
function save() {
  const quoted = (value) => {
    const plain = value === null ? "" : text(value);
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  const lines = [result.columns.map((column) => column.name), ...result.rows].map((row) => row.map(quoted).join(","));
  const url = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }));
  h("a", { href: url, download: "result.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
