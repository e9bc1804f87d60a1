// Puts the sections together: one live overview feeds them all, and says when what they show has changed.

import { onKeyNeeded, key, useKey } from "./api.js";
import { offerAlerts, restartAlerts, startAlerts } from "./alerts.js";
import { byId, say } from "./dom.js";
import { follow } from "./live.js";
import { startNumbers, offerNumbers } from "./numbers.js";
import { showNow } from "./now.js";
import { offerPartitions, startPartitions } from "./partitions.js";
import { offerQuarantine, startQuarantine } from "./quarantine.js";
import { startSql } from "./sql.js";
import { startTheme } from "./theme.js";

const STATES = { live: "live", lost: "not connected", resting: "resting" };

startTheme();
startNumbers();
startQuarantine();
startPartitions();
startSql();
startKey();
startNavigation();
byId("empty-curl").textContent = `curl ${location.origin}/v1/streams/iot/events --data-binary @events.ndjson -H 'Content-Type: application/x-ndjson'`;

const overview = follow("/v1/overview/live", (name, data) => name === "overview" && show(data), (state, problem) => {
  byId("connection").dataset.state = state;
  say(byId("connection"), STATES[state]);
  const trouble = byId("trouble");
  trouble.hidden = !problem || problem.status === 401;
  say(trouble, problem?.message ?? "");
});
startAlerts();

function show(data) {
  const { streams } = data;
  showNow(data);
  offerNumbers(streams, data.versions.metrics);
  offerAlerts(streams);
  offerQuarantine(streams, data.versions.quarantine);
  offerPartitions(data.versions.partitions, data.dagster);
  const link = byId("dagster");
  link.hidden = data.dagster === null;
  if (data.dagster !== null) link.href = data.dagster;
}

function startKey() {
  const dialog = byId("key-dialog");
  const form = byId("key-form");
  const button = byId("key-button");
  button.hidden = !key();
  onKeyNeeded((problem) => {
    button.hidden = false;
    if (key() && problem.message) say(byId("key-problem"), problem.message);
    if (!dialog.open) dialog.showModal();
  });
  button.addEventListener("click", () => dialog.showModal());
  byId("key-cancel").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", () => {
    useKey(form.key.value.trim());
    form.reset();
    overview.again();
    restartAlerts();
  });
}

/** The section that is looked at is marked in the bar above. */
function startNavigation() {
  const links = [...document.querySelectorAll("nav a")];
  const seen = new Map();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) seen.set(entry.target.id, entry.isIntersecting);
    const current = links.find((link) => seen.get(link.hash.slice(1)));
    for (const link of links) {
      if (link === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -60% 0px" });
  for (const link of links) observer.observe(byId(link.hash.slice(1)));
}
