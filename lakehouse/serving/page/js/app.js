// Start every section. One live overview feeds them, and its versions say which section must load its data again.

import { restartAlerts, startAlerts, updateAlerts } from "./alerts.js";
import { listDashboards } from "./dashboards.js";
import { byId, setText } from "./dom.js";
import { startKeyDialog } from "./key_dialog.js";
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
startNavigation();
listDashboards(document.querySelector("nav ul"));
byId("empty-curl").textContent = `curl ${location.origin}/v1/streams/iot/events --data-binary @events.ndjson -H 'Content-Type: application/x-ndjson'`;

const overview = follow("/v1/overview/live", (name, data) => name === "overview" && update(data), (state, error) => {
  byId("connection").dataset.state = state;
  setText(byId("connection"), CONNECTION_TEXT[state]);
  const notice = byId("notice");
  notice.hidden = !error || error.status === 401;
  setText(notice, error?.message ?? "");
});
startAlerts();
startKeyDialog(() => {
  overview.restart();
  restartAlerts();
});

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

/** Mark the section in view in the navigation bar. */
function startNavigation() {
  const links = [...document.querySelectorAll("nav a[href^='#']")];
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
