// Business metrics by day: choose a stream, a metric, a dimension and the number of days.

import { getJson } from "./api.js";
import { createChart } from "./chart.js";
import { byId, firstWithData, h, setOptions } from "./dom.js";
import { addDays, epoch, today } from "./format.js";
import { originLinks } from "./result.js";

const COMBINED = { sum: "summed", max: "largest value", min: "smallest value", mean: "mean value" };

/** The metric shown first for each stream that ships. Other streams show their first metric. */
const DEFAULT_METRIC = { clickstream: "events", financial: "amount", iot: "readings", logs: "events", orders: "amount_created", retail: "net_revenue", social: "events" };

const SETTLE_MS = 2500;
const MAX_FORECAST_DAYS = 400;

let settling, form, chart, measuresByStream = new Map(), latestRequest = 0, version = null, isChosen = false;

const label = (name) => name.replaceAll("_", " ");

export function startMetrics() {
  form = byId("metrics-form");
  chart = createChart(byId("metrics-chart"));
  form.addEventListener("change", (event) => {
    isChosen ||= event.target.name === "stream";
    refresh(event.target.name === "stream");
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** Offer these streams, and load the metrics again if `newVersion` differs from the last one. Until the reader has chosen a
 * stream, it is one with events. */
export function updateMetrics(streams, newVersion) {
  const preferred = firstWithData(streams);
  setOptions(form.stream, streams.map((stream) => stream.stream), preferred);
  const isEmpty = streams.some(({ stream, last_day: lastDay, newest_at: newest }) => stream === form.stream.value && !lastDay && !newest);
  const isMoved = !isChosen && isEmpty && form.stream.value !== preferred;
  if (isMoved) form.stream.value = preferred;
  if (isMoved || newVersion !== version) {
    version = newVersion;
    reload(isMoved);
    // An answer may lack what has landed in the last two seconds, and no later version may come to ask again.
    clearTimeout(settling);
    settling = setTimeout(() => reload(false), SETTLE_MS);
  }
}

function reload(streamChanged) {
  measuresByStream = new Map();
  refresh(streamChanged);
}

async function refresh(streamChanged) {
  const request = ++latestRequest;
  const stream = form.stream.value;
  if (!stream) return;
  const path = `/v1/overview/metrics/${encodeURIComponent(stream)}`;
  try {
    if (!measuresByStream.has(stream)) measuresByStream.set(stream, await getJson(path));
    const known = measuresByStream.get(stream);
    if (request !== latestRequest) return;
    const measure = selectMeasure(stream, known.measures, streamChanged);
    if (!measure) return showNone(stream);
    const metrics = await getJson(`${path}/${encodeURIComponent(measure.name)}`, selectedSpan(known));
    const forecast = form.shown.value === "forecast" && metrics.series.length ? await getForecast(path, metrics, known) : null;
    if (request === latestRequest) (forecast ? showForecast(forecast) : show(metrics));
  } catch (error) {
    if (request === latestRequest) chart.clear(h("p", { class: "none" }, error.message));
  }
}

/** Fill the form's metrics and dimensions, and return the selected metric. */
function selectMeasure(stream, measures, streamChanged) {
  setOptions(form.metric, measures.map(({ name }) => ({ value: name, label: label(name) })));
  if (streamChanged && measures.some(({ name }) => name === DEFAULT_METRIC[stream])) form.metric.value = DEFAULT_METRIC[stream];
  const measure = measures.find(({ name }) => name === form.metric.value);
  if (!measure) return null;
  setOptions(form.by, [
    { value: "", label: "nothing" },
    ...measure.dimensions.map((name) => ({ value: name, label: label(name) })),
  ]);
  // Amounts of different currencies cannot be summed.
  if (form.by.value === "" && measure.dimensions.includes("currency") && measure.name.includes("amount")) {
    form.by.value = "currency";
  }
  return measure;
}

function selectedSpan({ first_day: firstDay, last_day: lastDay }) {
  const first = form.days.value === "all" ? firstDay : addDays(lastDay, 1 - Number(form.days.value));
  return { by: form.by.value, first: first < firstDay ? firstDay : first, last: lastDay };
}

function show(metrics) {
  if (!metrics.series.length) return showNone(metrics.stream);
  const by = metrics.by ? ` by ${label(metrics.by)}` : "";
  chart.draw({
    title: `${label(metrics.metric)} of ${metrics.stream}${by}, ${metrics.days[0]} to ${metrics.days.at(-1)}, ${COMBINED[metrics.how]}`,
    isTime: true,
    x: metrics.days.map(epoch),
    labels: metrics.days,
    series: metrics.series.map(({ name, values }) => ({ name: label(name), values })),
  });
  byId("metrics-origin").replaceChildren(...originLinks([`serving.live_${metrics.stream}_daily`]));
}

/** Get the forecast of a metric; of one by a dimension, that of its largest value. */
function getForecast(path, { metric, by, series: [largest] }, { first_day: firstDay }) {
  const days = form.days.value === "all" ? daysSince(firstDay) : Number(form.days.value);
  return getJson(`${path}/${encodeURIComponent(metric)}/forecast`, { by, value: by && largest.name, days: Math.min(days, MAX_FORECAST_DAYS) });
}

const daysSince = (day) => Math.max(1, Math.round((epoch(today()) - epoch(day)) / 86400));

function showForecast({ stream, metric, by, value, days, values, expected, low, high, is_outside: outside }) {
  const of = by ? `, ${label(by)} ${value}` : "";
  chart.draw({
    title: `Forecast of ${label(metric)} of ${stream}${of}, ${days[0]} to ${days.at(-1)}`,
    kind: "band",
    isTime: true,
    x: days.map(epoch),
    labels: days,
    series: [
      { name: by ? `${label(metric)}, ${value}` : label(metric), values },
      { name: "expected", values: expected },
      { name: "low", values: low },
      { name: "high", values: high },
      { name: "outside", values: values.map((number, index) => (outside[index] ? number : null)) },
    ],
  });
  byId("metrics-origin").replaceChildren(...originLinks([`serving.live_${stream}_daily`]));
}

function showNone(stream) {
  chart.clear(
    h("p", { class: "none" },
      `No daily metrics of ${stream} yet. They show within a second of the first event.`));
}
