// Alerts: the newest stored ones, then each new one as it is raised.

import { getJson } from "./api.js";
import { byId, h, setOptions, setText } from "./dom.js";
import { plural, timestamp } from "./format.js";
import { follow } from "./live.js";

const MAX_KEPT = 500;
const MAX_SHOWN = 100;
const SEVERITY_RANK = { info: 0, warning: 1, critical: 2 };
const BURST_MS = 500;

let form, list, pauseButton, feed;
let alerts = new Map();
let newKeys = new Set();
let newWhilePaused = 0;
let timer = null;

const identity = (alert) => JSON.stringify([alert.stream, alert.alert, alert.dt, alert.entity, alert.event_key]);
const isPaused = () => pauseButton.getAttribute("aria-pressed") === "true";

export function startAlerts() {
  form = byId("alerts-form");
  list = byId("alerts-list");
  pauseButton = byId("alerts-pause");
  form.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  pauseButton.addEventListener("click", () => {
    pauseButton.setAttribute("aria-pressed", String(!isPaused()));
    newWhilePaused = 0;
    show();
  });
  load();
  feed = follow("/v1/alerts/live", (name, alert) => name === "alert" && add(alert));
}

export function updateAlerts(streams) {
  setOptions(form.stream, [{ value: "", label: "all" }, ...streams.map((stream) => stream.stream)]);
}

/** Load again, after the API key changed. */
export function restartAlerts() {
  load();
  feed.restart();
}

async function load() {
  try {
    const page = await getJson("/v1/alerts", { limit: MAX_SHOWN });
    for (const alert of page.alerts) alerts.set(identity(alert), alert);
    show();
  } catch (error) {
    list.replaceChildren(h("li", { class: "none" }, error.message));
  }
}

function add(alert) {
  const alertKey = identity(alert);
  const isKnown = alerts.has(alertKey);
  alerts.set(alertKey, alert);
  if (isKnown) return;
  newKeys.add(alertKey);
  if (isPaused()) {
    newWhilePaused += 1;
    setText(byId("alerts-state"), `paused, ${newWhilePaused} new`);
    return;
  }
  // Show a burst, and announce it to screen readers, once.
  timer ??= setTimeout(() => {
    timer = null;
    setText(byId("alerts-announced"), `${plural(newKeys.size, "new alert")}: ${alert.message ?? alert.alert}`);
    show();
  }, BURST_MS);
}

function show() {
  const newestFirst = [...alerts.entries()].sort(([, a], [, b]) => (a.event_time < b.event_time ? 1 : -1)).slice(0, MAX_KEPT);
  alerts = new Map(newestFirst);
  const shown = newestFirst
    .filter(([, alert]) => !form.stream.value || alert.stream === form.stream.value)
    .filter(([, { severity }]) => SEVERITY_RANK[severity] === undefined || SEVERITY_RANK[severity] >= SEVERITY_RANK[form.severity.value])
    .slice(0, MAX_SHOWN);
  setText(byId("alerts-state"), isPaused() ? "paused" : shown.length ? "newest first" : "");
  list.replaceChildren(...shown.map(([alertKey, alert]) => item(alert, newKeys.has(alertKey))));
  newKeys = new Set();
  if (!shown.length) {
    list.append(h("li", { class: "none" }, alerts.size
      ? "No alerts match the filters."
      : "No alerts yet. Events such as transactions of 10,000 or more raise them."));
  }
}

function item(alert, isNew) {
  const source = [alert.stream, alert.alert.replaceAll("_", " "), alert.entity].filter(Boolean).join(" · ");
  return h("li", { class: isNew ? "new" : null },
    h("span", { class: `severity ${alert.severity in SEVERITY_RANK ? alert.severity : ""}` }, alert.severity),
    h("p", {}, alert.message ?? alert.alert),
    h("p", { class: "aside" }, `${source} · `, h("time", { datetime: alert.event_time }, `${timestamp(alert.event_time)} UTC`)));
}
