// One entry of the catalog: its state, chart, lineage, columns, rows, checks, snapshots, contract and SQL.

import { getJson } from "./api.js";
import { byId, h } from "./dom.js";
import { bytes, count, plural, since, timestamp } from "./format.js";
import { drawLineage } from "./lineage.js";
import { queryForm, startQuery } from "./query_form.js";
import { catalogPath, code, resultTable } from "./result.js";
import { createResultChart, problem } from "./result_chart.js";
import { query } from "./run.js";

const MAX_LINKS = 8;
const MAX_SNAPSHOTS_SHOWN = 10;

/** Show the entry `name`, `layer.name`, in `main`. */
export async function showEntry(main, name) {
  document.title = `${name}, Lakehouse`;
  const path = `/v1/catalog/${name.split(".").map(encodeURIComponent).join("/")}`;
  const page = await getJson(path);
  const isQuery = page.entry.kind === "query";
  const sections = [
    heading(page),
    isQuery ? section("run", "Run", ...queryForm(page)) : page.chart ? chartSection() : null,
    lineageSection(),
    columnsSection(page),
    page.sample_sql ? sampleSection(page) : null,
    page.checks.length ? checksSection(page.checks) : null,
    page.state.snapshots.length ? snapshotsSection(page.state.snapshots) : null,
    page.contract ? contractSection(page.contract) : null,
    page.parameters.length ? parametersSection(page.parameters) : null,
    page.sql ? section("sql", "SQL", code("SQL", page.sql)) : null,
  ].filter(Boolean);
  main.replaceChildren(...sections);
  startLineage(page, path);
  if (isQuery) startQuery(page);
  else if (page.chart) drawChart(page);
  if (page.sample_sql) loadSample(page);
}

function section(id, title, ...children) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("div", { class: "heading" }, h("h2", { id: `${id}-title` }, title)), ...children);
}

function heading({ entry, state, unreadable, request: path }) {
  const facts = {
    rows: entry.rows === null ? null : count(entry.rows),
    size: entry.bytes === null ? null : bytes(entry.bytes),
    files: entry.files === null ? null : count(entry.files),
    "last change": entry.committed_at && since(entry.committed_at),
    "first day": state.first_day,
    "last day": state.last_day,
    "stale days": state.stale === null ? null : count(state.stale),
    owner: entry.owner,
  };
  const shown = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined);
  return h("section", { class: "entry" },
    h("p", { class: "aside" }, h("a", { href: "/catalog" }, "Catalog"), ` / ${entry.name.split(".")[0]}`),
    h("h1", { class: "page-title" }, entry.name, " ", h("span", { class: "kind" }, entry.kind === "lookup" ? "look-up" : entry.kind)),
    entry.description ? h("p", {}, entry.description) : null,
    path ? h("p", {}, h("code", {}, `GET ${path}`)) : null,
    unreadable ? h("p", { class: "notice" }, unreadable) : null,
    shown.length ? h("dl", { class: "facts" }, ...shown.map(([label, value]) =>
      h("div", {}, h("dt", {}, label), h("dd", { class: label === "stale days" && state.stale ? "warn" : null }, value)))) : null,
    state.stale_days.length ? h("p", { class: "aside" }, `Stale: ${state.stale_days.join(", ")}${state.stale > state.stale_days.length ? " and earlier days" : ""}. They are computed by the next run.`) : null);
}

function chartSection() {
  return section("chart", "Chart", h("div", { id: "chart-figure", class: "figure" }));
}

async function drawChart({ entry, chart, chart_sql: sql }) {
  const figure = createResultChart(byId("chart-figure"));
  try {
    const { columns, rows } = await query(sql);
    figure.draw(`${chart.y.join(", ") || entry.name}${chart.by ? ` by ${chart.by}` : ""}`, chart, columns, rows);
  } catch (error) {
    figure.clear(problem(error.message));
  }
}

function lineageSection() {
  return section("lineage", "Lineage",
    h("form", { class: "controls", id: "lineage-form" }, h("label", {}, "Follow", h("select", { name: "column" }))),
    h("div", { id: "lineage-figure" }));
}

function startLineage(page, path) {
  const form = byId("lineage-form");
  form.column.append(h("option", { value: "" }, "tables"), ...page.columns.map(({ name }) => h("option", { value: name }, `column ${name}`)));
  const figure = byId("lineage-figure");
  const name = page.entry.name;
  let latest = 0;
  const kindOf = (node) => `layer-${node.split(".")[0]}`;
  const show = async () => {
    const column = form.column.value;
    const number = ++latest;
    if (!column) return drawLineage(figure, page.lineage, name, catalogPath, kindOf);
    try {
      const graph = await getJson(`${path}/lineage`, { column });
      const hrefOf = (node) => columnPath(node);
      if (number === latest) drawLineage(figure, graph, `${name}.${column}`, hrefOf, kindOf);
    } catch (error) {
      if (number === latest) figure.replaceChildren(h("p", { class: "none" }, error.message));
    }
  };
  const linked = new URLSearchParams(location.search).get("column");
  if (page.columns.some((column) => column.name === linked)) form.column.value = linked;
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
}

/** The address of a column `layer.name.column`: its table, with the lineage of the column. */
function columnPath(node) {
  const [layer, name, ...column] = node.split(".");
  return `${catalogPath(`${layer}.${name}`)}?column=${encodeURIComponent(column.join("."))}#lineage`;
}

function columnsSection({ entry, columns, personal_columns: personal }) {
  if (!columns.length) return section("columns", "Columns", h("p", { class: "none" }, "The columns are not known: the SQL can't be read now, or the table was never computed."));
  const hasSources = columns.some((column) => column.sources.length);
  const hasReaders = columns.some((column) => column.readers.length);
  return section("columns", "Columns", h("div", { class: "scroll", role: "group", "aria-labelledby": "columns-title", tabindex: "0" }, h("table", { class: "fields" },
    h("caption", { class: "hidden" }, `Columns of ${entry.name}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Column"), h("th", { scope: "col" }, "Type"), h("th", { scope: "col" }, "Description"),
      hasSources ? h("th", { scope: "col" }, "Computed from") : null, hasReaders ? h("th", { scope: "col" }, "Read by") : null)),
    h("tbody", {}, ...columns.map((column) => h("tr", {},
      h("th", { scope: "row" }, column.name),
      h("td", {}, h("code", {}, column.type)),
      h("td", { class: "words" }, column.description,
        column.classification || personal.includes(column.name) ? h("span", { class: "sub" }, `${column.description ? " " : ""}${column.classification || "personal data"}`) : null),
      hasSources ? h("td", { class: "links" }, ...columnLinks(column.sources)) : null,
      hasReaders ? h("td", { class: "links" }, ...columnLinks(column.readers)) : null))))));
}

function columnLinks(nodes) {
  const links = (some) => some.map((node) => h("a", { href: columnPath(node) }, node));
  if (nodes.length <= MAX_LINKS) return links(nodes);
  return [...links(nodes.slice(0, MAX_LINKS - 1)), h("details", {}, h("summary", {}, `${nodes.length - MAX_LINKS + 1} more`), ...links(nodes.slice(MAX_LINKS - 1)))];
}

function sampleSection({ personal_columns: personal }) {
  const note = personal.length ? h("p", { class: "aside" }, `Without ${personal.join(", ")}, which may hold personal data.`) : null;
  return section("sample", "Sample rows", note, h("div", { id: "sample-rows", class: "scroll", role: "group", "aria-label": "Sample rows", tabindex: "0" }, h("p", { class: "none" }, "Loading…")));
}

async function loadSample({ entry, sample_sql: sql }) {
  const box = byId("sample-rows");
  try {
    const { columns, rows } = await query(sql);
    box.replaceChildren(rows.length ? resultTable(`Sample rows of ${entry.name}`, columns, rows) : h("p", { class: "none" }, "There are no rows yet."));
  } catch (error) {
    box.replaceChildren(problem(error.message));
  }
}

function parametersSection(parameters) {
  return section("parameters", "Parameters", h("div", { class: "scroll", role: "group", "aria-label": "Parameters", tabindex: "0" }, h("table", { class: "fields" },
    h("caption", { class: "hidden" }, "Parameters"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Parameter"), h("th", { scope: "col" }, "Type"), h("th", { scope: "col" }, "Without it"), h("th", { scope: "col" }, "Description"))),
    h("tbody", {}, ...parameters.map((parameter) => h("tr", {},
      h("th", { scope: "row" }, parameter.name),
      h("td", {}, h("code", {}, parameter.type)),
      h("td", {}, parameter.required ? "required" : parameter.default ?? "none"),
      h("td", { class: "words" }, parameter.description)))))));
}

function checksSection(checks) {
  const result = ({ passed }) => (passed === null ? ["muted", "not run yet"] : passed ? ["good", "passed"] : ["bad", "failed"]);
  return section("checks", "Checks", h("div", { class: "scroll", role: "group", "aria-label": "Checks", tabindex: "0" }, h("table", {},
    h("caption", { class: "hidden" }, "Checks with their last results"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Check"), h("th", { scope: "col" }, "Last result"), h("th", { scope: "col" }, "At"), h("th", { scope: "col" }, "Holds when"))),
    h("tbody", {}, ...checks.map((check) => h("tr", {},
      h("th", { scope: "row" }, check.name),
      h("td", { class: result(check)[0] }, result(check)[1]),
      h("td", {}, check.at ? h("time", { datetime: check.at }, timestamp(check.at)) : ""),
      h("td", { class: "words" }, check.description)))))));
}

function snapshotsSection(snapshots) {
  const table = (some) => h("div", { class: "scroll", role: "group", "aria-label": "Snapshots", tabindex: "0" }, h("table", {},
    h("caption", { class: "hidden" }, "Snapshots, newest first"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), h("th", { scope: "col" }, "Operation"),
      h("th", { scope: "col", class: "number" }, "Added"), h("th", { scope: "col", class: "number" }, "Removed"), h("th", { scope: "col", class: "number" }, "Rows"),
      h("th", { scope: "col" }, "Columns"), h("th", { scope: "col" }, "Snapshot"))),
    h("tbody", {}, ...some.map((snapshot) => h("tr", {},
      h("td", {}, h("time", { datetime: snapshot.at }, timestamp(snapshot.at))),
      h("td", {}, snapshot.operation),
      h("td", { class: "number" }, count(snapshot.added)), h("td", { class: "number" }, count(snapshot.removed)), h("td", { class: "number" }, count(snapshot.rows)),
      h("td", {}, snapshot.columns_changed.join(", ")),
      h("td", {}, h("code", {}, snapshot.id)))))));
  const [newest, older] = [snapshots.slice(0, MAX_SNAPSHOTS_SHOWN), snapshots.slice(MAX_SNAPSHOTS_SHOWN)];
  return section("snapshots", "Snapshots", table(newest),
    older.length ? h("details", {}, h("summary", {}, `${plural(older.length, "older snapshot")}`), table(older)) : null);
}

function contractSection({ text, versions }) {
  const [, ...earlier] = versions;
  const changes = versions.slice(0, -1).map(({ at, version, changes: list }) => [
    h("h3", {}, `Version ${version || "–"}, since `, h("time", { datetime: at }, timestamp(at))),
    list.length
      ? h("ul", { class: "changes" }, ...list.map((change) => h("li", {}, h("code", {}, change.where), " ", ...difference(change))))
      : h("p", { class: "aside" }, "Only comments or white space changed."),
  ]);
  const first = versions.at(-1);
  return section("contract", "Contract",
    ...changes.flat(),
    first ? h("p", { class: "aside" }, `${earlier.length ? `${plural(versions.length, "version")} are kept. The first has been` : "This version is"} in use since ${timestamp(first.at)} or earlier.`) : null,
    h("details", {}, h("summary", {}, "Show the contract"), code("Contract", text)));
}

function difference({ before, after }) {
  if (before === null) return ["added: ", h("ins", {}, after)];
  if (after === null) return ["removed: ", h("del", {}, before)];
  return [h("del", {}, before), " is now ", h("ins", {}, after)];
}
