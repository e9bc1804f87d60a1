// Quarantine: why rows were rejected, how many, and their raw text.

import { getJson } from "./api.js";
import { byId, firstWithData, h, setOptions, setText } from "./dom.js";
import { count, plural, share, timestamp } from "./format.js";

const MAX_SAMPLES = 20;
const MIN_REFRESH_MS = 3000; // while rejected rows keep arriving

let form, latestRequest = 0, version = null, refreshedAt = 0, selectedReason = null, overviewStreams = [];

export function startQuarantine() {
  form = byId("quarantine-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    selectedReason = null;
    showRecentShare();
    refresh();
  });
}

/** Offer these streams, and load the report again if `newVersion` differs from the last one. */
export function updateQuarantine(streams, newVersion) {
  setOptions(form.stream, streams.map((stream) => stream.stream), firstWithData(streams));
  overviewStreams = streams;
  showRecentShare();
  if (newVersion !== version && Date.now() - refreshedAt >= MIN_REFRESH_MS) {
    version = newVersion;
    refreshedAt = Date.now();
    refresh();
  }
}

function showRecentShare() {
  const rejected = overviewStreams.find(({ stream }) => stream === form.stream.value)?.broken_share;
  setText(byId("quarantine-recent"), rejected
    ? `${share(rejected)} of the events of the last 5 minutes break the contract. They are counted below once their day is computed.`
    : "");
}

async function refresh() {
  const request = ++latestRequest;
  const stream = form.stream.value;
  if (!stream) return;
  const path = `/v1/quarantine/${encodeURIComponent(stream)}`;
  const hours = Number(form.since.value);
  const since = hours ? new Date(Date.now() - hours * 3600000).toISOString() : "";
  try {
    const all = await getJson(path, { since, limit: selectedReason === null ? MAX_SAMPLES : 0 });
    const filtered = selectedReason === null ? all : await getJson(path, { since, reason: selectedReason, limit: MAX_SAMPLES });
    if (request === latestRequest) show(stream, all, filtered);
  } catch (error) {
    if (request !== latestRequest) return;
    setText(byId("quarantine-count"), "");
    byId("reasons").replaceChildren(h("li", { class: "none" }, error.message));
    byId("samples").replaceChildren();
  }
}

function show(stream, all, filtered) {
  setText(byId("quarantine-count"), `${plural(all.rows, "row")} of ${stream}`);
  showReasons(all.reasons);
  showSamples(filtered);
}

function showReasons(reasons) {
  const list = byId("reasons");
  const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  const largest = Math.max(1, ...reasons.map(({ rows }) => rows));
  list.replaceChildren(...reasons.map((reason) => reasonItem(reason, largest)));
  list.querySelectorAll("button")[focused]?.focus();
  if (!reasons.length) list.append(h("li", { class: "none" }, "No rows of this stream are in quarantine."));
}

function showSamples({ rows, samples }) {
  const list = byId("samples");
  list.replaceChildren(...samples.map(sampleItem));
  if (!samples.length) {
    list.append(h("li", { class: "none" }, "Rows that break the contract are shown here with their raw text."));
  } else if (rows > samples.length && !samples.some((row) => row.just_arrived)) {
    list.append(h("li", { class: "none" }, `The newest ${count(samples.length)} of ${count(rows)} rows.`));
  }
}

function reasonItem(reason, largest) {
  const isSelected = reason.reason === selectedReason;
  const bar = h("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${(reason.rows / largest) * 100}%`;
  const button = h("button", {
    type: "button",
    "aria-pressed": String(isSelected),
    title: `${reason.first_day} to ${reason.last_day}, last arrived ${timestamp(reason.last_arrived_at)} UTC`,
    onclick: () => {
      selectedReason = isSelected ? null : reason.reason;
      refresh();
    },
  }, h("span", {}, reason.reason), h("span", { class: "number" }, count(reason.rows)), bar);
  return h("li", {}, button);
}

function sampleItem(row) {
  const isCut = row.raw !== null && row.raw_length > [...row.raw].length;
  const file = row.file === null || row.object?.endsWith(`/${row.file}`) ? "" : ` (${row.file})`;
  const source = `${row.object ?? "no object"}${file}${row.row === null ? "" : `, row ${count(row.row)}`}`;
  return h("li", {},
    h("pre", { tabindex: "0", role: "group", "aria-label": "Raw text" }, row.raw ?? ""),
    isCut && h("p", { class: "aside" }, `Cut off: the row has ${count(row.raw_length)} characters.`),
    h("ul", {}, ...row.reasons.map((text) => h("li", {}, text))),
    h("p", { class: "aside" }, [
      source,
      `arrived ${timestamp(row.arrived_at)} UTC`,
      row.just_arrived && "just arrived, not counted yet",
    ].filter(Boolean).join(" · ")));
}
