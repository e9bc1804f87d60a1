// The business numbers of each day: choose stream, number, dimension and span.

import { get } from "./api.js";
import { chart } from "./chart.js";
import { byId, choices, firstWithData, h } from "./dom.js";
import { dayAfter, epoch } from "./format.js";

const HOW = { sum: "added up", max: "the largest", min: "the smallest", mean: "the mean" };

let form, picture, measures = new Map(), asked = 0, shown = null;

export function startNumbers() {
  form = byId("numbers-form");
  picture = chart(byId("numbers-chart"));
  form.addEventListener("change", (event) => refresh(event.target.name === "stream"));
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** These streams can be chosen; `versions` says which numbers changed since. */
export function offerNumbers(streams, version) {
  choices(form.stream, streams.map((stream) => stream.stream), firstWithData(streams));
  if (version !== shown) {
    shown = version;
    measures = new Map();
    refresh(false);
  }
}

async function refresh(otherStream) {
  const mine = ++asked;
  const stream = form.stream.value;
  if (!stream) return;
  try {
    if (!measures.has(stream)) measures.set(stream, await get(`/v1/overview/metrics/${encodeURIComponent(stream)}`));
    const known = measures.get(stream);
    if (mine !== asked) return;
    choices(form.metric, known.measures.map((one) => ({ value: one.name, label: one.name.replaceAll("_", " ") })));
    if (otherStream && known.measures.some((one) => one.name === MAIN[stream])) form.metric.value = MAIN[stream];
    const measure = known.measures.find((one) => one.name === form.metric.value);
    if (!measure) return none(stream);
    choices(form.by, [
      { value: "", label: "nothing" },
      ...measure.dimensions.map((name) => ({ value: name, label: name.replaceAll("_", " ") })),
    ]);
    // Amounts of several currencies are no amount.
    if (form.by.value === "" && otherStream !== null && measure.dimensions.includes("currency") && measure.name.includes("amount")) {
      form.by.value = "currency";
    }
    const last = known.last_day;
    const first = form.days.value === "all" ? known.first_day : dayAfter(last, 1 - Number(form.days.value));
    const span = { by: form.by.value, first: first < known.first_day ? known.first_day : first, last };
    const numbers = await get(`/v1/overview/metrics/${encodeURIComponent(stream)}/${encodeURIComponent(measure.name)}`, span);
    if (mine === asked) show(numbers);
  } catch (problem) {
    if (mine === asked) picture.clear(h("p", { class: "none" }, problem.message));
  }
}

/** What is shown first of the streams that ship; any other shows its first number. */
const MAIN = { clickstream: "events", financial: "amount", iot: "readings", logs: "events", orders: "amount_created", retail: "net_revenue", social: "events" };

function show(numbers) {
  if (!numbers.series.length) return none(numbers.stream);
  const name = numbers.metric.replaceAll("_", " ");
  const by = numbers.by ? ` by ${numbers.by.replaceAll("_", " ")}` : "";
  picture.draw({
    title: `${name} of ${numbers.stream}${by}, ${numbers.days[0]} to ${numbers.days.at(-1)}, ${HOW[numbers.how]}`,
    time: true,
    x: numbers.days.map(epoch),
    labels: numbers.days,
    series: numbers.series.map((one) => ({ name: one.name.replaceAll("_", " "), values: one.values })),
  });
}

function none(stream) {
  picture.clear(
    h("p", { class: "none" },
      `There are no daily numbers of ${stream} yet. They come with silver and gold: every night at 02:00 UTC, and within minutes after late data.`));
}
