// Alerts: the newest there are, and each new one as it comes.

import { get } from "./api.js";
import { byId, choices, h, say } from "./dom.js";
import { moment, plural } from "./format.js";
import { follow } from "./live.js";

const KEPT = 500;
const SHOWN = 100;
const RANK = { info: 0, warning: 1, critical: 2 };
const AT_ONCE = 500;

let form, list, pause, feed;
let alerts = new Map();
let fresh = new Set();
let held = 0;
let timer = null;

const identity = (alert) => JSON.stringify([alert.stream, alert.alert, alert.dt, alert.entity, alert.event_key]);

export function startAlerts() {
  form = byId("alerts-form");
  list = byId("alerts-list");
  pause = byId("alerts-pause");
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") === "true";
    pause.setAttribute("aria-pressed", String(!paused));
    held = 0;
    show();
  });
  load();
  feed = follow("/v1/alerts/live", (name, alert) => name === "alert" && arrive(alert));
}

export function offerAlerts(streams) {
  choices(form.stream, [{ value: "", label: "all" }, ...streams.map((stream) => stream.stream)]);
}

/** Ask again, with another key. */
export function restartAlerts() {
  load();
  feed.again();
}

async function load() {
  try {
    const answer = await get("/v1/alerts", { limit: SHOWN });
    for (const alert of answer.alerts) alerts.set(identity(alert), alert);
    show();
  } catch (problem) {
    list.replaceChildren(h("li", { class: "none" }, problem.message));
  }
}

function arrive(alert) {
  const known = alerts.has(identity(alert));
  alerts.set(identity(alert), alert);
  if (known) return;
  fresh.add(identity(alert));
  if (pause.getAttribute("aria-pressed") === "true") {
    held += 1;
    say(byId("alerts-state"), `paused, ${plural(held, "new one")}`);
    return;
  }
  // A burst is shown, and told to screen readers, once.
  timer ??= setTimeout(() => {
    timer = null;
    say(byId("alerts-said"), `${plural(fresh.size, "new alert")}: ${alert.message ?? alert.alert}`);
    show();
  }, AT_ONCE);
}

function show() {
  const ordered = [...alerts.entries()].sort(([, a], [, b]) => (a.event_time < b.event_time ? 1 : -1)).slice(0, KEPT);
  alerts = new Map(ordered);
  const wanted = ordered
    .filter(([, one]) => !form.stream.value || one.stream === form.stream.value)
    .filter(([, one]) => RANK[one.severity] === undefined || RANK[one.severity] >= RANK[form.severity.value])
    .slice(0, SHOWN);
  say(byId("alerts-state"), pause.getAttribute("aria-pressed") === "true" ? "paused" : wanted.length ? "the newest first" : "");
  list.replaceChildren(...wanted.map(([key, alert]) => item(alert, fresh.has(key))));
  fresh = new Set();
  if (!wanted.length) {
    list.append(h("li", { class: "none" }, alerts.size ? "None of this kind." : "There are none. They come with events such as transactions of 10,000 and more."));
  }
}

function item(alert, isNew) {
  const place = [alert.stream, alert.alert.replaceAll("_", " "), alert.entity].filter(Boolean).join(" · ");
  return h("li", { class: isNew ? "new" : null },
    h("span", { class: `severity ${alert.severity in RANK ? alert.severity : ""}` }, alert.severity),
    h("p", {}, alert.message ?? alert.alert),
    h("p", { class: "aside" }, `${place} · `, h("time", { datetime: alert.event_time }, `${moment(alert.event_time)} UTC`)));
}
