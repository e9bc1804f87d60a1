// Anomalies: the newest ones, and a day of a series with the band of normal values. The address names the series.

import { getJson } from "./api.js";
import { createChart } from "./chart.js";
import { byId, h } from "./dom.js";
import { number, plural, timestamp, today } from "./format.js";
import { problem } from "./result_chart.js";

const DAYS = 30;
const LIMIT = 200;
const REFRESH_MS = 10000;

/** Show the anomalies of the last days in `main`, and the series that the address names. */
export async function showAnomalies(main) {
  document.title = "Anomalies, Lakehouse";
  const address = new URLSearchParams(location.search);
  const chosen = { stream: address.get("stream"), entity: address.get("entity"), day: address.get("day") };
  main.replaceChildren(...(chosen.stream ? [seriesSection(chosen)] : []), listSection());
  if (chosen.stream) drawSeries(chosen);
  await showList();
  setInterval(() => document.hidden || showList().catch(() => null), REFRESH_MS);
}

const linkTo = (stream, entity, day) => `/anomalies?${new URLSearchParams({ stream, entity, day })}`;

function listSection() {
  return h("section", { "aria-labelledby": "anomalies-title" },
    h("div", { class: "heading" }, h("h1", { class: "page-title", id: "anomalies-title" }, "Anomalies"), h("p", { class: "aside", id: "anomalies-found", role: "status" })),
    h("div", { id: "anomalies", class: "scroll", role: "group", "aria-labelledby": "anomalies-title", tabindex: "0" }));
}

async function showList() {
  const since = new Date(Date.now() - DAYS * 86400000).toISOString();
  const { anomalies } = await getJson("/v1/anomalies", { since, limit: LIMIT });
  byId("anomalies-found").textContent = `${plural(anomalies.length, "anomaly", "anomalies")} in ${DAYS} days${anomalies.length === LIMIT ? ", the newest" : ""}`;
  byId("anomalies").replaceChildren(anomalies.length ? tableOf(anomalies) : h("p", { class: "none" }, "There are none. A contract declares in which series they are detected."));
}

function tableOf(anomalies) {
  const header = (text, className = null) => h("th", { scope: "col", class: className }, text);
  return h("table", {},
    h("caption", { class: "hidden" }, "Anomalies, newest first"),
    h("thead", {}, h("tr", {}, header("Time"), header("Series"), header("Stream"), header("Kind"),
      header("Value", "number"), header("Expected", "number"), header("Band", "number"), header("Score", "number"))),
    h("tbody", {}, ...anomalies.map((one) => h("tr", {},
      h("td", {}, h("time", { datetime: one.event_time }, timestamp(one.event_time))),
      h("th", { scope: "row" }, h("a", { href: linkTo(one.stream, one.entity, one.dt) }, one.entity)),
      h("td", {}, one.stream),
      h("td", { class: one.severity === "critical" ? "bad" : null }, one.kind.replace("_", " ")),
      h("td", { class: "number" }, number(one.value)),
      h("td", { class: "number" }, number(one.expected)),
      h("td", { class: "number" }, one.low === null ? "–" : `${number(one.low)} to ${number(one.high)}`),
      h("td", { class: "number" }, number(one.score))))));
}

function seriesSection({ stream, entity, day }) {
  return h("section", { "aria-labelledby": "series-title" },
    h("div", { class: "heading" }, h("h2", { id: "series-title" }, `${entity}, ${day ?? today()}`), h("p", { class: "aside", id: "series-rows", role: "status" }, `of ${stream}`)),
    h("div", { id: "series-figure", class: "figure" }));
}

async function drawSeries({ stream, entity, day }) {
  const chart = createChart(byId("series-figure"));
  try {
    const band = await getJson("/v1/anomalies/series", { stream, entity, day });
    const marked = band.value.map((value, index) => (band.is_anomaly[index] ? value : null));
    byId("series-rows").textContent = `${band.event_time.length < band.rows ? `the last ${plural(band.event_time.length, "row")} of ${band.rows}` : plural(band.rows, "row")} of ${stream}`;
    chart.draw({
      title: `${entity} on ${band.day}`,
      kind: "band",
      isTime: true,
      x: band.event_time.map((time) => Date.parse(time) / 1000),
      labels: band.event_time.map(timestamp),
      series: [
        { name: "value", values: band.value },
        { name: "expected", values: band.expected },
        { name: "low", values: band.low },
        { name: "high", values: band.high },
        { name: "anomaly", values: marked },
      ],
    });
  } catch (error) {
    chart.clear(problem(error.message));
  }
}
