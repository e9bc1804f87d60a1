// Partition states of the layers that are computed by day: a grid of streams and days, navigated with the arrow keys.

import { getJson } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { addDays, count, epoch, today } from "./format.js";

const MARKS = { materialised: "", stale: "~", waiting: "…", held_back: "!" };
const STATE_TEXT = { materialised: "materialised", stale: "stale", waiting: "waiting", held_back: "blocked" };
const WORST_FIRST = ["held_back", "stale", "waiting", "materialised"];
const ASSET_KEYS = {
  bronze: (stream) => ["bronze", stream],
  silver: (stream) => ["silver", stream],
  gold: (stream) => ["gold", `${stream}_daily`],
  metrics: () => ["gold", "daily_metrics"],
  features: (stream) => ["serving", `${stream}_features`],
  alerts: (stream) => ["serving", `${stream}_alerts`],
};
const DAY_WIDTH_PX = 24;
const NAME_WIDTH_PX = 150;

let form, grid, data = null, version = null, latestRequest = 0, dagsterUrl = null;
let selected = null;
let focusedCell = [0, 0];

const daysThatFit = () => Math.min(60, Math.max(8, Math.floor((byId("partitions").clientWidth - NAME_WIDTH_PX) / DAY_WIDTH_PX)));
const stateText = (state) => (state ? STATE_TEXT[state] : "no events");

export function startPartitions() {
  form = byId("partitions-form");
  grid = byId("grid");
  form.to.value = today();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.layer.addEventListener("change", show);
  form.to.addEventListener("change", refresh);
  byId("partitions-earlier").addEventListener("click", () => shiftDays(-daysThatFit()));
  byId("partitions-later").addEventListener("click", () => shiftDays(daysThatFit()));
  grid.addEventListener("keydown", moveFocus);
}

/** Load the states again if `newVersion` differs from the last one. */
export function updatePartitions(newVersion, url) {
  dagsterUrl = url;
  if (newVersion === version) return;
  version = newVersion;
  refresh();
}

function shiftDays(days) {
  form.to.value = addDays(form.to.value || today(), days);
  refresh();
}

async function refresh() {
  const request = ++latestRequest;
  try {
    const response = await getJson("/v1/overview/partitions", { to: form.to.value, days: daysThatFit() });
    if (request !== latestRequest) return;
    data = response;
    show();
  } catch (error) {
    if (request === latestRequest) grid.replaceChildren(h("tbody", {}, h("tr", {}, h("td", {}, error.message))));
  }
}

function show() {
  if (!data) return;
  const { days, streams } = data;
  setText(byId("partitions-range"), `${days[0]} to ${days.at(-1)}`);
  const hadFocus = grid.contains(document.activeElement);
  const lastColumn = days.length - 1;
  focusedCell = [Math.min(focusedCell[0], streams.length - 1), Math.min(focusedCell[1] || lastColumn, lastColumn)];
  grid.replaceChildren(
    h("thead", {}, monthRow(days), h("tr", {}, h("td", {}), ...days.map((day) => h("th", { scope: "col", title: day }, String(Number(day.slice(8))))))),
    h("tbody", {}, ...streams.map((stream, row) =>
      h("tr", {}, h("th", { scope: "row" }, stream.stream), ...days.map((day, column) => cell(stream, row, day, column))))));
  if (hadFocus) focusCell(...focusedCell);
  showDetail();
}

function monthRow(days) {
  const groups = [];
  for (const day of days) {
    const month = day.slice(0, 7);
    if (groups.at(-1)?.month === month) groups.at(-1).span += 1;
    else groups.push({ month, span: 1 });
  }
  const name = (month) => new Date(epoch(`${month}-01`) * 1000).toLocaleDateString("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });
  return h("tr", { "aria-hidden": "true" }, h("td", {}),
    ...groups.map(({ month, span }) => h("th", { colspan: span, class: "month" }, span > 2 ? name(month) : "")));
}

/** The states of one day of a stream, by layer. */
function statesByLayer(stream, column) {
  return Object.entries(stream.layers).map(([layer, states]) => ({ layer, ...(states[column] ?? { state: null }) }));
}

function worstState(stream, column) {
  const states = statesByLayer(stream, column)
    .filter(({ layer }) => !form.layer.value || layer === form.layer.value)
    .map(({ state }) => state);
  return WORST_FIRST.find((state) => states.includes(state)) ?? null;
}

function cell(stream, row, day, column) {
  const state = worstState(stream, column);
  const isSelected = selected !== null && selected.stream === stream.stream && selected.day === day;
  return h("td", { role: "presentation" }, h("button", {
    type: "button",
    role: "gridcell",
    class: `cell ${state ?? ""}`,
    tabindex: row === focusedCell[0] && column === focusedCell[1] ? "0" : "-1",
    "aria-selected": String(isSelected),
    "aria-label": `${stream.stream}, ${day}: ${stateText(state)}`,
    title: `${day}: ${stateText(state)}`,
    onfocus: () => { focusedCell = [row, column]; },
    onclick: () => {
      selected = isSelected ? null : { stream: stream.stream, day };
      focusedCell = [row, column];
      show();
      focusCell(row, column);
    },
  }, state ? MARKS[state] : ""));
}

function focusCell(row, column) {
  const cells = grid.tBodies[0].rows[row]?.querySelectorAll(".cell");
  if (!cells?.[column]) return;
  grid.querySelector('.cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
  cells[column].setAttribute("tabindex", "0");
  cells[column].focus();
}

function moveFocus(event) {
  const [row, column] = focusedCell;
  const [lastRow, lastColumn] = [data.streams.length - 1, data.days.length - 1];
  const target = {
    ArrowUp: [row - 1, column],
    ArrowDown: [row + 1, column],
    ArrowLeft: [row, column - 1],
    ArrowRight: [row, column + 1],
    Home: [row, 0],
    End: [row, lastColumn],
  }[event.key];
  if (!target) return;
  event.preventDefault();
  focusCell(Math.min(lastRow, Math.max(0, target[0])), Math.min(lastColumn, Math.max(0, target[1])));
}

function showDetail() {
  const detail = byId("partition");
  const stream = selected && data.streams.find(({ stream }) => stream === selected.stream);
  const column = selected ? data.days.indexOf(selected.day) : -1;
  if (!stream || column < 0) return detail.replaceChildren();
  const ledger = stream.ledgers[column];
  const columns = ["Layer", "State", "Rows", ...(dagsterUrl ? ["In Dagster"] : [])];
  detail.replaceChildren(
    h("h3", {}, `${stream.stream}, ${selected.day}`),
    ledger
      ? h("p", {}, `${count(ledger.landed)} landed = ${count(ledger.silver)} in silver + ${count(ledger.quarantined)} quarantined + ${count(ledger.duplicates)} duplicates${ledger.replaced ? `; ${count(ledger.replaced)} of the quarantined are replaced by corrected rows` : ""}`)
      : h("p", { class: "muted" }, "No conservation ledger is kept for this day."),
    ...blockedObjects(ledger),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col", class: name === "Rows" ? "number" : null }, name)))),
      h("tbody", {}, ...statesByLayer(stream, column).map((partition) => layerRow(stream.stream, partition))))));
}

/** The landing objects that the quality gate blocks on this day, and what to do about them. */
function blockedObjects(ledger) {
  const objects = ledger?.blocked_objects ?? [];
  if (!objects.length) return [];
  const more = ledger.more_blocked_objects ? [h("li", {}, `and ${count(ledger.more_blocked_objects)} more`)] : [];
  return [
    h("p", { class: "bad" }, "The quality gate blocks these landing objects, so their rows are in quarantine:"),
    h("ul", {}, ...objects.map(({ object, valid, rows }) =>
      h("li", {}, h("code", {}, object), ` ${count(valid)} of ${count(rows)} rows are valid. To take it out: `,
        h("code", {}, `lakehouse withdraw ${shellQuoted(object)}`))), ...more),
    h("p", { class: "aside" }, "Programs take objects out by ", h("code", {}, "POST /v1/withdrawals"), ", Dagster by its job ", h("code", {}, "withdraw"),
      ". To fix the rows instead: ", h("code", {}, `lakehouse quarantine export ${selected.stream}`), "."),
  ];
}

/** A word of a shell command, in quotes if it needs them. */
const shellQuoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function layerRow(stream, { layer, state, rows }) {
  const kind = { stale: "warn", held_back: "bad" }[state] ?? (state ? null : "muted");
  return h("tr", {},
    h("th", { scope: "row" }, layer),
    h("td", { class: kind }, stateText(state)),
    h("td", { class: "number" }, count(rows)),
    dagsterUrl && h("td", {}, dagsterLink(ASSET_KEYS[layer]?.(stream))));
}

function dagsterLink(assetKey) {
  if (!assetKey) return null;
  const path = assetKey.map(encodeURIComponent).join("/");
  return h("a", { href: `${dagsterUrl}/assets/${path}?view=partitions&partition=${selected.day}` }, assetKey.join("/"));
}
