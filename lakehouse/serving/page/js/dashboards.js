// Dashboards: pages that users write in Markdown. Their SQL runs with the reader's key, and saved files show at once.

import { getJson } from "./api.js";
import { h } from "./dom.js";
import { code, originLinks } from "./result.js";
import { createResultChart, problem } from "./result_chart.js";
import { query } from "./run.js";

const FOLLOW_MS = 2000;
const REFRESH_MS = 30000;

const EXAMPLE = "# Sales\n\nWhat customers bought.\n\n```sql\n-- chart: line x=dt y=revenue by=country\nselect dt, country, sum(line_amount) as revenue\nfrom silver.retail\ngroup by all\n```\n";

/** Show the list of dashboards in `main`. */
export async function showDashboards(main) {
  const dashboards = await getJson("/v1/dashboards");
  document.title = "Dashboards, Lakehouse";
  main.replaceChildren(h("section", {},
    h("div", { class: "heading" }, h("h1", { class: "page-title" }, "Dashboards")),
    dashboards.length
      ? h("ul", { class: "dashboards" }, ...dashboards.map(({ name, title, description }) =>
        h("li", {}, h("a", { href: dashboardPath(name) }, title), description ? h("p", { class: "aside" }, description) : null)))
      : h("div", {}, h("p", {}, "There are none yet. Write a file such as ", h("code", {}, "dashboards/sales.md"), ":"), code("Example", EXAMPLE))));
}

const dashboardPath = (name) => `/dashboards/${encodeURIComponent(name)}`;

/** Add a link to each dashboard to a navigation list. */
export async function listDashboards(list) {
  const dashboards = await getJson("/v1/dashboards").catch(() => []);
  list.append(...dashboards.map(({ name, title }) => {
    const path = dashboardPath(name);
    return h("li", {}, h("a", { href: path, "aria-current": location.pathname === path && "page" }, title));
  }));
}

/** Show the dashboard `name` in `main`, and follow its file. */
export async function showDashboard(main, name) {
  const path = `/v1/dashboards/${encodeURIComponent(name)}`;
  let version = null;
  let charts = [];

  function show(dashboard) {
    version = dashboard.version;
    document.title = `${dashboard.title}, Lakehouse`;
    charts = [];
    const blocks = dashboard.blocks.map((block, index) => (block.html ? prose(block.html) : chartOf(block, index + 1)));
    const hasTitle = blocks.some((block) => block.querySelector("h1"));
    main.replaceChildren(h("article", { class: "dashboard" }, hasTitle ? null : h("h1", { class: "page-title" }, dashboard.title), ...blocks));
    charts.forEach((draw) => draw());
  }

  function chartOf({ sql, chart, reads, error }, number) {
    const figure = h("div", { class: "figure" }, h("p", { class: "none" }, "Loading…"));
    const origin = h("p", { class: "aside origin" }, ...originLinks(reads));
    const card = h("section", { "aria-label": `Chart ${number}` }, figure, origin);
    if (error) figure.replaceChildren(problem(error));
    else charts.push(drawer(figure, sql, chart));
    return card;
  }

  show(await getJson(path));
  let refreshed = Date.now();
  const follow = async () => {
    if (!document.hidden) {
      const latest = await getJson(path).catch(() => null);
      if (latest && latest.version !== version) show(latest);
      else if (Date.now() - refreshed > REFRESH_MS) charts.forEach((draw) => draw());
      if (Date.now() - refreshed > REFRESH_MS) refreshed = Date.now();
    }
    setTimeout(follow, FOLLOW_MS);
  };
  setTimeout(follow, FOLLOW_MS);
}

/** Return the function that runs a block's SQL and draws its rows. */
function drawer(figure, sql, chart) {
  const result = createResultChart(figure);
  return async () => {
    try {
      const { columns, rows } = await query(sql);
      const title = `${chart.y.join(", ") || "Rows"}${chart.x ? ` by ${chart.x}` : ""}${chart.by ? ` and ${chart.by}` : ""}`;
      result.draw(title, chart, columns, rows);
    } catch (error) {
      result.clear(problem(error.message));
    }
  };
}

/** The server has rendered Markdown without raw HTML, and the page's policy forbids scripts besides its own. */
function prose(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  return h("div", { class: "prose" }, ...document.importNode(parsed.body, true).childNodes);
}
