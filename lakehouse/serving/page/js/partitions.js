// The partitions of the layers that are computed day by day: a grid of streams and days, walked with the arrow keys.

import { get } from "./api.js";
import { byId, h, say } from "./dom.js";
import { count, dayAfter, epoch, today } from "./format.js";

const MARKS = { materialised: "", stale: "~", waiting: "…", held_back: "!" };
const WORDS = { materialised: "materialised", stale: "stale", waiting: "waiting", held_back: "held back" };
const WORST = ["held_back", "stale", "waiting", "materialised"];
const ASSETS = {
  bronze: (stream) => ["bronze", stream],
  silver: (stream) => ["silver", stream],
  gold: (stream) => ["gold", `${stream}_daily`],
  metrics: () => ["gold", "daily_metrics"],
  features: (stream) => ["serving", `${stream}_features`],
  alerts: (stream) => ["serving", `${stream}_alerts`],
};

let form, grid, data = null, shown = null, asked = 0, dagster = null;
let chosen = null;
let at = [0, 0];

const DAY_WIDTH = 24;
const NAME_WIDTH = 150;
const daysWide = () => Math.min(60, Math.max(8, Math.floor((byId("partitions").clientWidth - NAME_WIDTH) / DAY_WIDTH)));

export function startPartitions() {
  form = byId("partitions-form");
  grid = byId("grid");
  form.to.value = today();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.layer.addEventListener("change", show);
  form.to.addEventListener("change", refresh);
  byId("partitions-earlier").addEventListener("click", () => move(-daysWide()));
  byId("partitions-later").addEventListener("click", () => move(daysWide()));
  grid.addEventListener("keydown", walk);
}

/** `version` says whether any partition has changed. */
export function offerPartitions(version, dagsterUrl) {
  dagster = dagsterUrl;
  if (version === shown) return;
  shown = version;
  refresh();
}

function move(days) {
  form.to.value = dayAfter(form.to.value || today(), days);
  refresh();
}

async function refresh() {
  const mine = ++asked;
  try {
    const answer = await get("/v1/overview/partitions", { to: form.to.value, days: daysWide() });
    if (mine !== asked) return;
    data = answer;
    show();
  } catch (problem) {
    if (mine === asked) grid.replaceChildren(h("tbody", {}, h("tr", {}, h("td", {}, problem.message))));
  }
}

function show() {
  if (!data) return;
  const { days, streams } = data;
  say(byId("partitions-range"), `${days[0]} to ${days.at(-1)}`);
  const focused = grid.contains(document.activeElement);
  at = [Math.min(at[0], streams.length - 1), Math.min(at[1] || days.length - 1, days.length - 1)];
  grid.replaceChildren(
    h("thead", {}, months(days), h("tr", {}, h("td", {}), ...days.map((day) => h("th", { scope: "col", title: day }, String(Number(day.slice(8))))))),
    h("tbody", {}, ...streams.map((stream, row) =>
      h("tr", {}, h("th", { scope: "row" }, stream.stream), ...days.map((day, column) => cell(stream, row, day, column))))));
  if (focused) place(...at);
  detail();
}

function months(days) {
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
function statesOf(stream, column) {
  return Object.entries(stream.layers).map(([layer, states]) => ({ layer, ...(states[column] ?? { state: null }) }));
}

function stateOf(stream, column) {
  const states = statesOf(stream, column).filter(({ layer }) => !form.layer.value || layer === form.layer.value);
  return WORST.find((state) => states.some((one) => one.state === state)) ?? null;
}

function cell(stream, row, day, column) {
  const state = stateOf(stream, column);
  const selected = chosen !== null && chosen.stream === stream.stream && chosen.day === day;
  return h("td", { role: "presentation" }, h("button", {
    type: "button",
    role: "gridcell",
    class: `cell ${state ?? ""}`,
    tabindex: row === at[0] && column === at[1] ? "0" : "-1",
    "aria-selected": String(selected),
    "aria-label": `${stream.stream}, ${day}: ${state ? WORDS[state] : "no events"}`,
    title: `${day}: ${state ? WORDS[state] : "no events"}`,
    onfocus: () => { at = [row, column]; },
    onclick: () => {
      chosen = selected ? null : { stream: stream.stream, day };
      at = [row, column];
      show();
      place(row, column);
    },
  }, state ? MARKS[state] : ""));
}

function place(row, column) {
  const cells = grid.tBodies[0].rows[row]?.querySelectorAll(".cell");
  if (!cells?.[column]) return;
  grid.querySelector('.cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
  cells[column].setAttribute("tabindex", "0");
  cells[column].focus();
}

function walk(event) {
  const last = [data.streams.length - 1, data.days.length - 1];
  const to = {
    ArrowUp: [at[0] - 1, at[1]],
    ArrowDown: [at[0] + 1, at[1]],
    ArrowLeft: [at[0], at[1] - 1],
    ArrowRight: [at[0], at[1] + 1],
    Home: [at[0], 0],
    End: [at[0], last[1]],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  place(Math.min(last[0], Math.max(0, to[0])), Math.min(last[1], Math.max(0, to[1])));
}

function detail() {
  const box = byId("partition");
  const stream = chosen && data.streams.find((one) => one.stream === chosen.stream);
  const column = chosen ? data.days.indexOf(chosen.day) : -1;
  if (!stream || column < 0) return box.replaceChildren();
  const ledger = stream.ledgers[column];
  box.replaceChildren(
    h("h3", {}, `${stream.stream}, ${chosen.day}`),
    ledger
      ? h("p", {}, `${count(ledger.landed)} landed = ${count(ledger.silver)} in silver + ${count(ledger.quarantined)} quarantined + ${count(ledger.duplicates)} duplicates`)
      : h("p", { class: "muted" }, "No ledger of this day is kept."),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ...["Layer", "State", "Rows", ...(dagster ? ["In Dagster"] : [])].map((name) =>
        h("th", { scope: "col", class: name === "Rows" ? "number" : null }, name)))),
      h("tbody", {}, ...statesOf(stream, column).map(({ layer, state, rows }) => {
        const asset = ASSETS[layer]?.(stream.stream);
        return h("tr", {},
          h("th", { scope: "row" }, layer),
          h("td", { class: { stale: "warn", held_back: "bad" }[state] ?? (state ? null : "muted") }, state ? WORDS[state] : "no events"),
          h("td", { class: "number" }, count(rows)),
          dagster && h("td", {}, asset && h("a", { href: `${dagster}/assets/${asset.map(encodeURIComponent).join("/")}?view=partitions&partition=${chosen.day}` }, asset.join("/"))));
      })))));
}
