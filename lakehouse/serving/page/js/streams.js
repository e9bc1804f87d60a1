// The live table of streams: rate, freshness, quality, quarantined share and partition state.

import { byId, h, setText, svg } from "./dom.js";
import { compact, count, duration, plural, rate, share, timestamp } from "./format.js";
import { catalogPath } from "./result.js";

const rows = new Map();

/** Show an overview of the API. */
export function updateStreams(overview) {
  const { streams } = overview;
  const hasData = streams.some((stream) => stream.newest_at !== null || stream.last_day !== null);
  byId("empty").hidden = hasData;
  byId("now").hidden = !hasData;
  setText(byId("now-at"), `${timestamp(overview.at)} UTC`);
  updateTotals(streams);
  updateLeftOut(overview.left_out);
  const body = byId("streams");
  for (const stream of streams) {
    if (!rows.has(stream.stream)) rows.set(stream.stream, createRow(stream.stream));
    updateRow(rows.get(stream.stream), stream);
  }
  const elements = streams.map((stream) => rows.get(stream.stream).element);
  if (elements.length !== body.children.length || elements.some((element, index) => body.children[index] !== element)) {
    body.replaceChildren(...elements);
  }
}

function updateTotals(streams) {
  const days = streams.map((stream) => stream.last_day).filter((day) => day !== null);
  const total = (field) => days.reduce((sum, day) => sum + day[field], 0);
  const late = streams.filter((stream) => stream.late).length;
  const fresh = streams.filter((stream) => stream.newest_at !== null).length - late;
  const landed = total("landed") - total("replaced");
  const totals = {
    "events per second": rate(streams.reduce((sum, stream) => sum + stream.events_per_second, 0)),
    "streams fresh": `${fresh} of ${streams.length}`,
    "valid, newest days": landed ? share(total("valid") / landed) : "–",
    "quarantined, newest days": landed ? compact(total("quarantined") - total("replaced")) : "–",
  };
  const list = byId("totals");
  if (!list.children.length) {
    list.append(...Object.keys(totals).map((name) => h("div", {}, h("dt", {}, name), h("dd", {}))));
  }
  Object.values(totals).forEach((text, index) => setText(list.children[index].lastChild, text));
}

function updateLeftOut(entries) {
  const texts = entries.map(({ objects, count: number, reason }) => {
    const more = number > objects.length ? ` and ${count(number - objects.length)} more` : "";
    return `Left out: ${objects.join(", ")}${more}: ${reason}.`;
  });
  const list = byId("left-out");
  list.hidden = texts.length === 0;
  if (list.textContent !== texts.join("")) list.replaceChildren(...texts.map((text) => h("li", {}, text)));
}

function createRow(name) {
  const cells = {
    rate: h("td", { class: "number", "data-label": "Events/s" }),
    newest: h("td", { class: "number", "data-label": "Newest" }),
    quality: h("td", { class: "number", "data-label": "Quality" }),
    quarantined: h("td", { class: "number", "data-label": "Quarantined" }),
    partitions: h("td", { class: "last", "data-label": "Partitions" }),
  };
  const area = svg("path", { class: "area" });
  const line = svg("path");
  const sparkline = svg("svg", { class: "sparkline", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  const header = h("th", { scope: "row" }, h("a", { class: "plain", href: catalogPath(`silver.${name}`) }, name));
  const element = h("tr", {}, header, h("td", { class: "wide" }, sparkline), ...Object.values(cells));
  return { element, header, cells, area, line };
}

function updateRow({ header, cells, area, line }, stream) {
  header.title = stream.description;
  drawSparkline(area, line, stream.recent);
  setText(cells.rate, rate(stream.events_per_second));
  updateNewest(cells.newest, stream);
  updateQuality(cells.quality, stream);
  updateQuarantined(cells.quarantined, stream);
  updatePartitionStates(cells.partitions, stream);
}

function updateNewest(cell, stream) {
  const kind = stream.late ? "bad" : stream.age_seconds === null ? "muted" : "";
  mark(cell, `${duration(stream.age_seconds)}${stream.late ? ", late" : ""}`, kind);
  const allowed = stream.allowed_age_seconds ? `; the contract allows ${duration(stream.allowed_age_seconds)}` : "";
  cell.title = stream.newest_at ? `${timestamp(stream.newest_at)} UTC${allowed}` : "No events yet";
}

function updateQuality(cell, stream) {
  const { quality, quality_threshold: threshold, last_day: day } = stream;
  mark(cell, share(quality), quality === null ? "muted" : quality < threshold ? "bad" : "");
  cell.title = day
    ? `${count(day.valid)} of ${count(day.landed - day.replaced)} rows of ${day.day} are valid; the contract requires ${share(threshold)}`
    : "";
}

function updateQuarantined(cell, stream) {
  const { last_day: day, broken_share: recent } = stream;
  const open = day && day.quarantined - day.replaced;
  const ofDay = day ? share(open ? open / (day.landed - day.replaced) : 0) : "–";
  mark(cell, recent !== null ? share(recent) : ofDay, day || recent !== null ? "" : "muted");
  cell.title = [
    recent !== null && "Share of events in the last 5 minutes",
    day && `${count(open)} of ${count(day.landed - day.replaced)} rows of ${day.day}`,
  ].filter(Boolean).join("; ");
}

function updatePartitionStates(cell, stream) {
  const { held_back: blocked, blocked_objects: objects, stale, waiting } = stream.partitions;
  const hasData = stream.last_day !== null;
  const states = [
    blocked && `${count(blocked)} blocked`,
    objects && `${plural(objects, "object")} blocked`,
    stale && `${count(stale)} stale`,
    waiting && `${count(waiting)} waiting`,
  ].filter(Boolean);
  cell.title = stream.blocked_objects
    .map(({ object, day, valid, rows }) => `${object}: ${count(valid)} of ${count(rows)} rows valid on ${day}`)
    .join("\n");
  const kind = blocked || objects ? "bad" : stale ? "warn" : states.length || !hasData ? "muted" : "good";
  mark(cell, states.length ? states.join(", ") : hasData ? "up to date" : "–", kind);
}

function mark(cell, text, kind) {
  setText(cell, text);
  for (const name of ["good", "warn", "bad", "muted"]) cell.classList.toggle(name, name === kind);
}

function drawSparkline(area, line, values) {
  const largest = Math.max(...values, 1e-9);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(2)} ${(27 - (value / largest) * 25).toFixed(2)}`);
  const path = points.length ? `M${points.join("L")}` : "";
  line.setAttribute("d", path);
  area.setAttribute("d", path && `${path}L100 28L0 28Z`);
}
