// Start the page that the address names: the catalog or one of its entries, anomalies, the dashboards or one of them.

import { showAnomalies } from "./anomalies.js";
import { byId, h } from "./dom.js";
import { showCatalog } from "./catalog.js";
import { listDashboards, showDashboard, showDashboards } from "./dashboards.js";
import { showEntry } from "./entry.js";
import { startKeyDialog } from "./key_dialog.js";
import { startTheme } from "./theme.js";

const TITLES = { catalog: "Catalog", anomalies: "Anomalies", dashboards: "Dashboards" };
const [page, ...names] = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);

startTheme();
startKeyDialog(show);
for (const link of byId("pages").querySelectorAll("a")) {
  if (link.pathname === `/${page}`) link.setAttribute("aria-current", names.length ? "true" : "page");
}
listDashboards(byId("pages"));
show();

async function show() {
  try {
    if (page === "catalog") await (names.length ? showEntry(byId("main"), names.join(".")) : showCatalog(byId("main")));
    else if (page === "anomalies") await showAnomalies(byId("main"));
    else await (names.length ? showDashboard(byId("main"), names[0]) : showDashboards(byId("main")));
  } catch (error) {
    byId("main").replaceChildren(h("section", {}, h("h1", {}, TITLES[page]), h("p", { class: "none" }, error.message)));
  }
}
