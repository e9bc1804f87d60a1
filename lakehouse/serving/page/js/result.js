// Show the rows of a query: as a table, as bars, and with links to the tables that they were read from.

import { h } from "./dom.js";

const NUMERIC_TYPE = /^(u?(tiny|small|big|huge)?int(eger)?|float|double|decimal)\b/i;
const TIME_TYPE = /^(date|timestamp)\b/i;

export const isNumeric = ({ type }) => NUMERIC_TYPE.test(type) && !type.endsWith("[]");
export const isTimeColumn = ({ type }) => TIME_TYPE.test(type) && !type.endsWith("[]");

/** A value as text; values in lists and objects as JSON. */
export const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

/** Seconds since 1970 of a date or timestamp of the API. */
export const seconds = (value) => Date.parse(value.length === 10 ? `${value}T00:00:00Z` : value) / 1000;

/** A table of rows, each a list of values in the order of `columns`. */
export function resultTable(caption, columns, rows) {
  const numeric = columns.map(isNumeric);
  const kinds = columns.map((column, index) => (numeric[index] ? "number" : isTimeColumn(column) ? "time" : null));
  return h("table", { class: "result" },
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, ...columns.map((column, index) =>
      h("th", { scope: "col", class: numeric[index] ? "number" : null }, column.name, h("span", { class: "sub" }, column.type.toLowerCase()))))),
    h("tbody", {}, ...rows.map((row) =>
      h("tr", {}, ...row.map((value, index) =>
        value === null ? h("td", { class: "null" }, "null") : h("td", { class: kinds[index] }, text(value)))))));
}

/** A table of one number for each label, with bars. `pairs` are [label, number]. */
export function barTable(title, pairs) {
  const largest = Math.max(...pairs.map(([, value]) => Math.abs(Number(value ?? 0))), 1e-300);
  return h("table", { class: "bars" },
    h("caption", { class: "hidden" }, title),
    h("tbody", {}, ...pairs.map(([label, value]) => {
      const bar = h("span", { class: Number(value) < 0 ? "bar negative" : "bar", "aria-hidden": "true" });
      bar.style.width = `${(Math.abs(Number(value ?? 0)) / largest) * 100}%`;
      return h("tr", {}, h("th", { scope: "row" }, label === null ? "null" : text(label)), h("td", { class: "number" }, value === null ? "null" : text(value)), h("td", {}, bar));
    })));
}

/** A text of several lines in a box that scrolls. */
export const code = (label, lines) => h("pre", { class: "code", role: "group", "aria-label": label, tabindex: "0" }, h("code", {}, lines));

/** The address of an entry of the catalog, of which `name` is `layer.name`; of a dashboard, its own page. */
export const catalogPath = (name) => `${name.startsWith("dashboards.") ? "" : "/catalog"}/${name.split(".").map(encodeURIComponent).join("/")}`;

const MAX_ORIGINS = 6;

/** Links to the tables of these names in the catalog, after the word From; nothing if there are none. */
export const originLinks = (names) => (names.length
  ? ["From ", ...names.slice(0, MAX_ORIGINS).flatMap((name, index) => [index ? ", " : "", h("a", { href: catalogPath(name) }, name)]),
    names.length > MAX_ORIGINS ? ` and ${names.length - MAX_ORIGINS} more` : null]
  : []).filter((part) => part !== null);
