// What flows in each stream now: rate, freshness, quality, what was refused, and how far the partitions are.

import { byId, h, say, svg } from "./dom.js";
import { compact, count, duration, moment, rate, share } from "./format.js";

const rows = new Map();

/** Show the server's overview. */
export function showNow(overview) {
  const { streams } = overview;
  const alive = streams.filter((stream) => stream.newest_at !== null || stream.last_day !== null);
  byId("empty").hidden = alive.length > 0;
  byId("now").hidden = alive.length === 0;
  say(byId("now-at"), `${moment(overview.at)} UTC`);
  totals(streams);
  const body = byId("flow");
  for (const stream of streams) {
    if (!rows.has(stream.stream)) rows.set(stream.stream, row(stream.stream));
    update(rows.get(stream.stream), stream);
  }
  const wanted = streams.map((stream) => rows.get(stream.stream).element);
  if (wanted.length !== body.children.length || wanted.some((one, at) => body.children[at] !== one)) {
    body.replaceChildren(...wanted);
  }
}

function totals(streams) {
  const days = streams.map((stream) => stream.last_day).filter((day) => day !== null);
  const sum = (name) => days.reduce((all, day) => all + day[name], 0);
  const late = streams.filter((stream) => stream.late).length;
  const fresh = streams.filter((stream) => stream.newest_at !== null).length - late;
  const landed = sum("landed");
  const shown = {
    "events a second": rate(streams.reduce((all, stream) => all + stream.events_per_second, 0)),
    "streams fresh": `${fresh} of ${streams.length}`,
    "valid, newest days": landed ? share(sum("valid") / landed) : "–",
    "quarantined, newest days": landed ? compact(sum("quarantined")) : "–",
  };
  const list = byId("totals");
  if (!list.children.length) {
    list.append(...Object.keys(shown).map((name) => h("div", {}, h("dt", {}, name), h("dd", {}))));
  }
  Object.values(shown).forEach((text, at) => say(list.children[at].lastChild, text));
}

function row(name) {
  const cells = {
    rate: h("td", { class: "number", "data-label": "Events/s" }),
    newest: h("td", { class: "number", "data-label": "Newest" }),
    quality: h("td", { class: "number", "data-label": "Quality" }),
    quarantined: h("td", { class: "number", "data-label": "Quarantined" }),
    partitions: h("td", { class: "last", "data-label": "Partitions" }),
  };
  const under = svg("path", { class: "under" });
  const line = svg("path");
  const spark = svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" }, under, line);
  const head = h("th", { scope: "row" }, name);
  const { rate: first, ...others } = cells;
  const element = h("tr", {}, head, h("td", { class: "wide" }, spark), first, ...Object.values(others));
  return { element, head, cells, under, line };
}

function update({ head, cells, under, line }, stream) {
  head.title = stream.description;
  draw(under, line, stream.recent);
  say(cells.rate, rate(stream.events_per_second));
  mark(cells.newest, `${duration(stream.age_seconds)}${stream.late ? ", late" : ""}`, stream.late ? "bad" : stream.age_seconds === null ? "muted" : "");
  cells.newest.title = stream.newest_at
    ? `${moment(stream.newest_at)} UTC` + (stream.allowed_age_seconds ? `; its contract allows ${duration(stream.allowed_age_seconds)}` : "")
    : "Nothing has arrived yet";
  const day = stream.last_day;
  const under_threshold = stream.quality !== null && stream.quality < stream.quality_threshold;
  mark(cells.quality, share(stream.quality), under_threshold ? "bad" : stream.quality === null ? "muted" : "");
  cells.quality.title = day ? `${count(day.valid)} of ${count(day.landed)} rows of ${day.day} are valid; the contract asks for ${share(stream.quality_threshold)}` : "";
  const now = stream.broken_share;
  mark(cells.quarantined, now !== null ? share(now) : day ? share(day.landed ? day.quarantined / day.landed : 0) : "–", day || now !== null ? "" : "muted");
  const ofDay = day ? `${count(day.quarantined)} of ${count(day.landed)} rows of ${day.day}` : "";
  cells.quarantined.title = now !== null ? ["Of what arrived in the last 5 minutes", ofDay].filter(Boolean).join("; ") : ofDay;
  const { held_back: held, stale, waiting } = stream.partitions;
  const parts = [held && `${count(held)} held back`, stale && `${count(stale)} stale`, waiting && `${count(waiting)} waiting`].filter(Boolean);
  mark(cells.partitions, parts.length ? parts.join(", ") : day ? "up to date" : "–", held ? "bad" : stale ? "warn" : parts.length || !day ? "muted" : "good");
}

function mark(cell, text, kind) {
  say(cell, text);
  for (const one of ["good", "warn", "bad", "muted"]) cell.classList.toggle(one, one === kind);
}

function draw(under, line, values) {
  const most = Math.max(...values, 1e-9);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(2)} ${(27 - (value / most) * 25).toFixed(2)}`);
  const path = points.length ? `M${points.join("L")}` : "";
  line.setAttribute("d", path);
  under.setAttribute("d", path && `${path}L100 28L0 28Z`);
}
