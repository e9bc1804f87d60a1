// The catalog: every entry by layer, and a search over names, columns and descriptions.

import { getJson } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { bytes, compact, count, plural, since } from "./format.js";
import { catalogPath } from "./result.js";

const LAYERS = ["gold", "serving", "silver", "queries", "dashboards", "lookups", "quarantine", "realtime", "bronze"];
const MAX_COLUMNS = 6;

/** Show the catalog in `main`. */
export async function showCatalog(main) {
  const entries = (await getJson("/v1/catalog")).map(indexed);
  document.title = "Catalog, Lakehouse";
  const query = new URLSearchParams(location.search).get("q") ?? "";
  const input = h("input", { type: "search", id: "search", value: query, autocomplete: "off", spellcheck: "false", placeholder: "a table, a column, a word" });
  const results = h("div", { id: "results" });
  const found = h("p", { class: "aside", role: "status" });
  main.replaceChildren(h("section", {},
    h("div", { class: "heading" }, h("h1", { class: "page-title" }, "Catalog"), found),
    h("div", { class: "controls search" }, h("label", { for: "search" }, "Search names, columns and descriptions", input)),
    results));
  const update = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = entries.map((entry) => ({ entry, ...match(entry, words) })).filter(({ rank }) => rank !== null);
    results.replaceChildren(...(words.length ? ranked(matches) : byLayer(matches)));
    setText(found, words.length ? `${count(matches.length)} of ${count(entries.length)}` : plural(entries.length, "entry", "entries"));
    history.replaceState(null, "", words.length ? `?q=${encodeURIComponent(input.value)}` : location.pathname);
  };
  input.addEventListener("input", update);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
    event.preventDefault();
    byId("search").focus();
  });
  update();
}

function indexed(entry) {
  const columns = entry.columns.map((column) => ({ ...column, text: `${column.name} ${column.description ?? ""}`.toLowerCase() }));
  return { ...entry, columns, nameText: entry.name.toLowerCase(), text: `${entry.name} ${entry.description} ${entry.owner ?? ""}`.toLowerCase() };
}

/** Rank an entry that has each word, the smallest first: 0 in its name, 1 in the name of a column, 2 elsewhere. Null is no match. */
function match(entry, words) {
  if (!words.length) return { rank: 0, columns: [] };
  const columns = entry.columns.filter((column) => words.some((word) => column.text.includes(word)));
  const isFound = (word) => entry.text.includes(word) || columns.some((column) => column.text.includes(word));
  if (!words.every(isFound)) return { rank: null, columns: [] };
  if (words.every((word) => entry.nameText.includes(word))) return { rank: 0, columns: [] };
  const named = columns.some((column) => words.some((word) => column.name.toLowerCase().includes(word)));
  return { rank: named ? 1 : 2, columns };
}

const ranked = (matches) => (matches.length
  ? [table("Entries found", matches.sort((a, b) => a.rank - b.rank || order(a.entry) - order(b.entry) || a.entry.name.localeCompare(b.entry.name)))]
  : [h("p", { class: "none" }, "Nothing has all of these words.")]);

const layerOf = ({ name }) => name.split(".")[0];
const order = (entry) => (LAYERS.indexOf(layerOf(entry)) + LAYERS.length) % LAYERS.length;

function byLayer(matches) {
  const layers = [...new Set(matches.map(({ entry }) => layerOf(entry)))].sort((a, b) => LAYERS.indexOf(a) - LAYERS.indexOf(b));
  return layers.flatMap((layer) => {
    const within = matches.filter(({ entry }) => layerOf(entry) === layer);
    return [h("h2", { class: "layer" }, layer), table(`Entries of ${layer}`, within)];
  });
}

function table(caption, matches) {
  return h("div", { class: "scroll" }, h("table", { class: "entries" },
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "Kind"), h("th", { scope: "col" }, "Description"),
      h("th", { scope: "col", class: "number" }, "Rows"), h("th", { scope: "col", class: "number" }, "Size"), h("th", { scope: "col", class: "number" }, "Changed"))),
    h("tbody", {}, ...matches.map(row))));
}

function row({ entry, columns }) {
  const shown = columns.slice(0, MAX_COLUMNS);
  const more = columns.length > shown.length ? ` and ${columns.length - shown.length} more` : "";
  return h("tr", {},
    h("th", { scope: "row" }, h("a", { href: catalogPath(entry.name) }, entry.name)),
    h("td", {}, h("span", { class: "kind" }, entry.kind === "lookup" ? "look-up" : entry.kind)),
    h("td", { class: "words" }, entry.description,
      shown.length ? h("span", { class: "sub columns-found" }, `${columns.length === 1 ? "Column" : "Columns"}: ${shown.map(({ name }) => name).join(", ")}${more}`) : null),
    h("td", { class: "number" }, entry.rows === null ? "" : compact(entry.rows)),
    h("td", { class: "number" }, entry.bytes === null ? "" : bytes(entry.bytes)),
    h("td", { class: "number" }, entry.committed_at === null ? "" : h("time", { datetime: entry.committed_at }, since(entry.committed_at))));
}
