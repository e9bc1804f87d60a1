// A named query in the catalog: a form of its parameters, its chart and its rows. The values are in the address.

import { request } from "./api.js";
import { byId, h } from "./dom.js";
import { plural } from "./format.js";
import { resultTable } from "./result.js";
import { createResultChart, problem } from "./result_chart.js";

const MAX_ROWS_SHOWN = 100;
const PREFIX = "p.";
const INPUTS = { integer: { type: "number", step: "1" }, number: { type: "number", step: "any" }, date: { type: "date" } };

/** The contents of the section: nothing is run yet. */
export const queryForm = ({ parameters, chart }) => [
  h("form", { class: "controls", id: "query-form" }, ...parameters.map(field), h("button", { class: "primary" }, "Run"), h("span", { class: "aside", role: "status" })),
  chart ? h("div", { id: "chart-figure", class: "figure" }) : null,
  h("div", { id: "query-rows", class: "scroll", role: "group", "aria-label": "Rows", tabindex: "0" }),
];

/** Run the query when the form is sent, and now unless a required value is missing. */
export function startQuery({ entry, parameters, chart }) {
  const form = byId("query-form");
  const figure = chart ? createResultChart(byId("chart-figure")) : null;
  const status = form.querySelector("[role=status]");
  const inputOf = (name) => form.elements.namedItem(name);
  let latest = 0;
  const given = new URLSearchParams(location.search);
  for (const { name } of parameters) if (given.has(PREFIX + name)) inputOf(name).value = given.get(PREFIX + name);
  const run = async () => {
    const number = ++latest;
    status.textContent = "Running…";
    try {
      const { columns, rows, statistics } = await fetchRows(entry.name, parameters.map(({ name }) => [name, inputOf(name).value]));
      if (number !== latest) return;
      status.textContent = `${plural(statistics.rows, "row")}${statistics.truncated ? ", truncated" : ""}${rows.length > MAX_ROWS_SHOWN ? `; the first ${MAX_ROWS_SHOWN} are shown` : ""}`;
      figure?.draw(`${chart.y.join(", ") || entry.name}${chart.by ? ` by ${chart.by}` : ""}`, chart, columns, rows);
      byId("query-rows").replaceChildren(resultTable(`Rows of ${entry.name}`, columns, rows.slice(0, MAX_ROWS_SHOWN)));
    } catch (error) {
      if (number !== latest) return;
      status.textContent = "";
      figure?.clear(problem(error.message));
      byId("query-rows").replaceChildren(...(figure ? [] : [problem(error.message)]));
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    history.replaceState(null, "", addressOf(parameters.map(({ name }) => [PREFIX + name, inputOf(name).value])));
    run();
  });
  const missing = parameters.filter(({ name, required }) => required && !inputOf(name).value).map(({ name }) => name);
  if (!missing.length) run();
  else status.textContent = `Needs ${missing.join(", ")}.`;
}

function field({ name, type, required, default: preset, enum: choices, description }) {
  const values = choices ?? (type === "boolean" ? ["true", "false"] : null);
  const placeholder = preset === null || preset === undefined ? null : String(preset);
  const input = values
    ? h("select", { name, required }, h("option", { value: "" }, placeholder ?? (required ? "" : "any")), ...values.map((value) => h("option", { value }, value)))
    : h("input", { name, required, placeholder, autocomplete: "off", spellcheck: "false", ...(INPUTS[type] ?? { type: "text" }) });
  return h("label", { title: description }, name, input);
}

function addressOf(pairs) {
  const address = new URL(location.href);
  for (const [name, value] of pairs) {
    if (value) address.searchParams.set(name, value);
    else address.searchParams.delete(name);
  }
  return address;
}

async function fetchRows(name, pairs) {
  const values = new URLSearchParams(pairs.filter(([, value]) => value));
  const response = await request(`/v1/queries/${encodeURIComponent(name.split(".")[1])}?${values}`, { headers: { accept: "application/json" } });
  const { columns, rows, statistics } = await response.json();
  return { columns, rows: rows.map((row) => columns.map((column) => row[column.name])), statistics };
}
