// Quarantine: why rows were refused, how often, and what arrived.

import { get } from "./api.js";
import { byId, choices, firstWithData, h, say } from "./dom.js";
import { count, moment, plural, share } from "./format.js";

const SAMPLES = 20;
const PAUSE = 3000; // milliseconds between looks while broken rows keep coming

let form, asked = 0, shown = null, looked = 0, reason = null, flowing = [];

export function startQuarantine() {
  form = byId("quarantine-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    reason = null;
    sayWhatArrives();
    refresh();
  });
}

/** These streams can be chosen; `version` says whether what is in quarantine has changed. */
export function offerQuarantine(streams, version) {
  choices(form.stream, streams.map((stream) => stream.stream), firstWithData(streams));
  flowing = streams;
  sayWhatArrives();
  if (version !== shown && Date.now() - looked >= PAUSE) {
    shown = version;
    looked = Date.now();
    refresh();
  }
}

function sayWhatArrives() {
  const broken = flowing.find((stream) => stream.stream === form.stream.value)?.broken_share;
  say(byId("quarantine-arrives"), broken
    ? `${share(broken)} of what arrived in the last 5 minutes breaks its contract; those rows are counted when their day has been computed.`
    : "");
}

async function refresh() {
  const mine = ++asked;
  const stream = form.stream.value;
  if (!stream) return;
  const path = `/v1/quarantine/${encodeURIComponent(stream)}`;
  const hours = Number(form.since.value);
  const since = hours ? new Date(Date.now() - hours * 3600000).toISOString() : "";
  try {
    const all = await get(path, { since, limit: reason === null ? SAMPLES : 0 });
    const some = reason === null ? all : await get(path, { since, reason, limit: SAMPLES });
    if (mine === asked) show(stream, all, some);
  } catch (problem) {
    if (mine !== asked) return;
    say(byId("quarantine-count"), "");
    byId("reasons").replaceChildren(h("li", { class: "none" }, problem.message));
    byId("samples").replaceChildren();
  }
}

function show(stream, all, some) {
  say(byId("quarantine-count"), `${plural(all.rows, "row")} of ${stream}`);
  const most = Math.max(1, ...all.reasons.map((one) => one.rows));
  const list = byId("reasons");
  const focused = list.contains(document.activeElement) ? [...list.querySelectorAll("button")].indexOf(document.activeElement) : -1;
  list.replaceChildren(...all.reasons.map((one) => choice(one, most)));
  list.querySelectorAll("button")[focused]?.focus();
  if (!all.reasons.length) {
    list.append(h("li", { class: "none" }, "Nothing of this stream is in quarantine."));
  }
  const samples = byId("samples");
  samples.replaceChildren(...some.samples.map(sample));
  if (!some.samples.length) samples.append(h("li", { class: "none" }, "Rows that break their contract are shown here as they arrived."));
  else if (some.rows > some.samples.length && !some.samples.some((row) => row.just_arrived)) {
    samples.append(h("li", { class: "none" }, `The ${count(some.samples.length)} that arrived last, of ${count(some.rows)}.`));
  }
}

function choice(one, most) {
  const chosen = one.reason === reason;
  const bar = h("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${(one.rows / most) * 100}%`;
  const button = h("button", {
    type: "button",
    "aria-pressed": String(chosen),
    title: `${one.first_day} to ${one.last_day}, last arrived ${moment(one.last_arrived_at)} UTC`,
    onclick: () => {
      reason = chosen ? null : one.reason;
      refresh();
    },
  }, h("span", {}, one.reason), h("span", { class: "number" }, count(one.rows)), bar);
  return h("li", {}, button);
}

function sample(row) {
  const cut = row.raw !== null && row.raw_length > [...row.raw].length;
  return h("li", {},
    h("pre", { tabindex: "0", role: "group", "aria-label": "Raw text" }, row.raw ?? ""),
    cut && h("p", { class: "aside" }, `The first characters of ${count(row.raw_length)}.`),
    h("ul", {}, ...row.reasons.map((text) => h("li", {}, text))),
    h("p", { class: "aside" }, [
      `${row.object ?? "no object"}${row.row === null ? "" : `, row ${count(row.row)}`}`,
      `arrived ${moment(row.arrived_at)} UTC`,
      row.just_arrived && "just arrived, not counted yet",
    ].filter(Boolean).join(" · ")));
}
