// Start every section. One live overview feeds them, and its versions say which section must load its data again.

import { onKeyNeeded, key, setKey } from "./api.js";
import { restartAlerts, startAlerts, updateAlerts } from "./alerts.js";
import { byId, setText } from "./dom.js";
import { follow } from "./live.js";
import { startMetrics, updateMetrics } from "./metrics.js";
import { updateStreams } from "./streams.js";
import { startPartitions, updatePartitions } from "./partitions.js";
import { startQuarantine, updateQuarantine } from "./quarantine.js";
import { startSql } from "./sql.js";
import { startTheme } from "./theme.js";

const CONNECTION_TEXT = { live: "live", lost: "not connected", paused: "paused" };

startTheme();
startMetrics();
startQuarantine();
startPartitions();
startSql();
startKeyDialog();
startNavigation();
byId("empty-curl").textContent = `curl ${location.origin}/v1/streams/iot/events --data-binary @events.ndjson -H 'Content-Type: application/x-ndjson'`;

const overview = follow("/v1/overview/live", (name, data) => name === "overview" && update(data), (state, error) => {
  byId("connection").dataset.state = state;
  setText(byId("connection"), CONNECTION_TEXT[state]);
  const notice = byId("notice");
  notice.hidden = !error || error.status === 401;
  setText(notice, error?.message ?? "");
});
startAlerts();

function update(overview) {
  const { streams, versions } = overview;
  updateStreams(overview);
  updateMetrics(streams, versions.metrics);
  updateAlerts(streams);
  updateQuarantine(streams, versions.quarantine);
  updatePartitions(versions.partitions, overview.dagster);
  const link = byId("dagster");
  link.hidden = overview.dagster === null;
  if (overview.dagster !== null) link.href = overview.dagster;
}

function startKeyDialog() {
  const dialog = byId("key-dialog");
  const form = byId("key-form");
  const button = byId("key-button");
  button.hidden = !key();
  onKeyNeeded((problem) => {
    button.hidden = false;
    if (key() && problem.message) setText(byId("key-problem"), problem.message);
    if (!dialog.open) dialog.showModal();
  });
  button.addEventListener("click", () => dialog.showModal());
  byId("key-cancel").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", () => {
    setKey(form.key.value.trim());
    form.reset();
    overview.restart();
    restartAlerts();
  });
}

/** Mark the section in view in the navigation bar. */
function startNavigation() {
  const links = [...document.querySelectorAll("nav a")];
  const inView = new Map();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) inView.set(entry.target.id, entry.isIntersecting);
    const current = links.find((link) => inView.get(link.hash.slice(1)));
    for (const link of links) {
      if (link === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -60% 0px" });
  for (const link of links) observer.observe(byId(link.hash.slice(1)));
}
