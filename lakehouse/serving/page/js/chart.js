// A chart over time or over numbers, by uPlot: a key that says the values, arrow keys that walk over them, and the same
// numbers as a table for who can't or won't look at a picture.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { h, svg } from "./dom.js";
import { number } from "./format.js";
import { onTheme } from "./theme.js";

const HEIGHT = 300;
const DASHES = [[], [7, 4], [2, 3]];
const ROWS = 1000;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const seriesName = (index) => `series-${(index % 9) + 1}`;
const dashOf = (index) => DASHES[Math.floor(index / 3) % DASHES.length];

/**
 * A chart inside `figure`; `draw(data)` shows other data, `clear()` none.
 *
 * Data: `title`, `time` (whether x is in seconds since 1970), `x`, `labels` (x as text), `series` as {name, values}.
 */
export function chart(figure) {
  let plot = null;
  let data = null;
  const observer = new ResizeObserver(() => plot?.setSize({ width: plotWidth(), height: HEIGHT }));
  const holder = h("div", {
    class: "plot",
    role: "group",
    tabindex: "0",
    "aria-roledescription": "chart",
    onkeydown: walk,
    onblur: () => plot && say(plot.data[0].length - 1),
  });
  const canvas = h("div", { "aria-hidden": "true" });
  const spoken = h("p", { class: "hidden", "aria-live": "polite" });
  const legend = h("ul", { class: "key" });
  holder.append(canvas, spoken);
  observer.observe(figure);
  onTheme(() => data && show());

  const plotWidth = () => Math.max(200, figure.clientWidth);

  function draw(next) {
    data = next;
    holder.setAttribute("aria-label", `${data.title}. Left and right arrow keys read the values; a table follows.`);
    figure.replaceChildren(legend, holder, table(data));
    show();
  }

  function clear(...instead) {
    plot?.destroy();
    plot = data = null;
    figure.replaceChildren(...instead);
  }

  function show() {
    plot?.destroy();
    canvas.replaceChildren();
    plot = new uPlot(options(), [data.x, ...data.series.map((one) => one.values)], canvas);
    say(data.x.length - 1);
  }

  function options() {
    const bars = data.series.length === 1 && data.x.length <= 120;
    const axis = {
      stroke: colour("muted"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const many = data.x.length > 45;
    return {
      width: plotWidth(),
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: data.time, ...(bars || data.x.length < 2 ? { range: padded } : {}) }, y: { range: fromZero } },
      axes: [
        { ...axis, grid: { show: false }, ...(data.time ? { values: times } : {}) },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : shortened(tick))) },
      ],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      series: [
        {},
        ...data.series.map((one, index) => ({
          label: one.name,
          stroke: colour(seriesName(index)),
          width: bars ? 0 : 1.75,
          dash: dashOf(index),
          fill: bars ? colour(seriesName(index)) : undefined,
          paths: bars ? uPlot.paths.bars({ size: [0.7, 40, 1] }) : uPlot.paths.linear(),
          points: { show: !bars && !many, size: 5, dash: [] },
        })),
      ],
      hooks: { setCursor: [(self) => say(self.cursor.idx ?? data.x.length - 1)] },
    };
  }

  /** The key says the values at this place. */
  function say(index) {
    if (!data?.x.length) return;
    legend.replaceChildren(
      h("li", { class: "when" }, data.labels[index]),
      ...data.series.map((one, at) =>
        h("li", {}, sample(at), `${one.name} `, h("output", {}, number(one.values[index])))));
  }

  function walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !plot) return;
    event.preventDefault();
    const last = data.x.length - 1;
    const index = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + step));
    plot.setCursor({ left: plot.valToPos(data.x[index], "x"), top: 10 });
    say(index);
    const values = data.series.map((one) => `${one.name} ${number(one.values[index])}`);
    spoken.textContent = `${data.labels[index]}: ${values.join(", ")}`;
  }

  return { draw, clear };
}

function sample(index) {
  const line = { x1: 0, y1: 5, x2: 18, y2: 5, "stroke-width": 3, class: seriesName(index) };
  const dash = dashOf(index);
  return svg("svg", { width: 18, height: 10, "aria-hidden": "true" },
    svg("line", dash.length ? { ...line, "stroke-dasharray": dash.join(" ") } : line));
}

/** Room for half a bar, or for a point alone, at either end. */
function padded(self, min, max) {
  const x = self.data[0];
  const step = x.length > 1 ? Math.min(...x.slice(1).map((value, at) => value - x[at])) : self.scales.x.time ? 86400 : 1;
  return [min - step / 2, max + step / 2];
}

function fromZero(_, min, max) {
  if (min === null) return [0, 1];
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  const room = (high - low || 1) * 0.06;
  return [low < 0 ? low - room : 0, high > 0 ? high + room : 0];
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
const shortened = (value) => compact.format(value);

/** Days as 20 Nov, the year where it changes, clock times where days are not enough. */
function times(self, ticks) {
  let year = null;
  return ticks.map((tick) => {
    const at = new Date(tick * 1000);
    const parts = at.toISOString();
    if (tick % 86400) return parts.slice(11, 16);
    const day = at.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
    const text = at.getUTCFullYear() === year ? day : `${day}\n${at.getUTCFullYear()}`;
    year = at.getUTCFullYear();
    return text;
  });
}

function table(data) {
  const details = h("details", {}, h("summary", {}, "Show as a table"));
  // Made when it is asked for: few are.
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const rows = data.labels.slice(-ROWS).map((label, at) => ({ label, at: at + Math.max(0, data.labels.length - ROWS) }));
    details.append(
      h("div", { class: "scroll", role: "group", "aria-label": data.title, tabindex: "0" },
        h("table", {},
          h("caption", { class: "hidden" }, data.title),
          h("thead", {}, h("tr", {},
            h("th", { scope: "col" }, data.time ? "Time" : "At"),
            ...data.series.map((one) => h("th", { scope: "col", class: "number" }, one.name)))),
          h("tbody", {}, ...rows.reverse().map(({ label, at }) =>
            h("tr", {}, h("th", { scope: "row" }, label),
              ...data.series.map((one) => h("td", { class: "number" }, number(one.values[at])))))))));
  });
  return details;
}
