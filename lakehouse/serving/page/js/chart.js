// Charts over time or over numbers, drawn by uPlot. A legend shows the values, the arrow keys move through them, and a
// table holds the same values for readers who cannot use the picture.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { h, svg } from "./dom.js";
import { number } from "./format.js";
import { onThemeChange } from "./theme.js";

const HEIGHT_PX = 300;
const DASHES = [[], [7, 4], [2, 3]];
const MAX_TABLE_ROWS = 1000;
const MAX_BARS = 120;
const MAX_POINTS_WITH_MARKS = 45;
const [EXPECTED, LOW, HIGH, MARKED] = [1, 2, 3, 4];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const seriesName = (index) => `series-${(index % 9) + 1}`;
const dashOf = (index) => DASHES[Math.floor(index / 3) % DASHES.length];

/**
 * Create a chart inside `figure`. `draw(data)` replaces its data, `clear(...elements)` replaces it with other elements.
 *
 * Data: `title`, `isTime` (x holds seconds since 1970), `x`, `labels` (x as text), `series` as {name, values}, and perhaps
 * `kind`: line, area or bar. Areas and bars of several series are stacked, unless a value is below zero. Of a `kind` band,
 * the series are the value, the expected one, the lower and the upper end of the band, and marked values.
 */
export function createChart(figure) {
  let plot = null;
  let data = null;
  let table = null;
  const observer = new ResizeObserver(() => plot?.setSize({ width: plotWidth(), height: HEIGHT_PX }));
  const holder = h("div", {
    class: "plot",
    role: "group",
    tabindex: "0",
    "aria-roledescription": "chart",
    onkeydown: moveCursor,
    onblur: () => plot && showValues(plot.data[0].length - 1),
  });
  const canvas = h("div", { "aria-hidden": "true" });
  const announced = h("p", { class: "hidden", "aria-live": "polite" });
  const legend = h("ul", { class: "legend-values" });
  holder.append(canvas, announced);
  observer.observe(figure);
  onThemeChange(() => data && show());

  const plotWidth = () => Math.max(200, figure.clientWidth);

  function draw(newData) {
    const isUpdate = plot && shapeOf(newData) === shapeOf(data);
    data = newData;
    holder.setAttribute("aria-label", `${data.title}. Use the left and right arrow keys to read the values. A table follows.`);
    if (isUpdate) return update();
    table = valuesTable(() => data);
    figure.replaceChildren(legend, holder, table.element);
    show();
  }

  /** Show other values in place, so that focus, cursor and the open table stay. */
  function update() {
    plot.setData(columns());
    showValues(plot.cursor.idx ?? data.x.length - 1);
    table.update();
  }

  const columns = () => [data.x, ...drawnValues(data)];

  function clear(...elements) {
    plot?.destroy();
    plot = data = null;
    figure.replaceChildren(...elements);
  }

  function show() {
    plot?.destroy();
    canvas.replaceChildren();
    plot = new uPlot(options(), columns(), canvas);
    showValues(data.x.length - 1);
  }

  function options() {
    const bars = data.kind ? data.kind === "bar" : data.series.length === 1 && data.x.length <= MAX_BARS;
    const filled = bars || data.kind === "area";
    const stacked = isStacked(data);
    const axis = {
      stroke: colour("muted"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
    };
    const hasMarks = !filled && data.x.length <= MAX_POINTS_WITH_MARKS;
    const isBand = data.kind === "band";
    const bandLine = (index) => ({ stroke: index === MARKED ? colour("bad") : colour("muted"), width: 1, dash: index === EXPECTED ? [4, 4] : [] });
    const marks = { paths: () => null, points: { show: true, size: 9, fill: colour("bad") } };
    return {
      width: plotWidth(),
      height: HEIGHT_PX,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: data.isTime, ...(bars || data.x.length < 2 ? { range: padRange } : {}) }, y: isBand ? {} : { range: rangeFromZero } },
      bands: isBand ? [{ series: [HIGH + 1, LOW + 1], fill: `${colour(seriesName(0))}20` }] : [],
      axes: [
        { ...axis, grid: { show: false }, ...(data.isTime ? { values: timeTicks } : {}) },
        { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : compact.format(tick))) },
      ],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      series: [
        {},
        ...data.series.map(({ name }, index) => ({
          label: name,
          stroke: colour(seriesName(index)),
          width: bars ? 0 : 1.75,
          dash: stacked ? [] : dashOf(index),
          fill: filled ? `${colour(seriesName(index))}${bars || stacked ? "" : "30"}` : undefined,
          paths: bars ? uPlot.paths.bars({ size: [0.7, 40, 1] }) : uPlot.paths.linear(),
          points: { show: hasMarks, size: 5, dash: [] },
          ...(isBand && index > 0 ? bandLine(index) : {}),
          ...(isBand && index === MARKED ? marks : {}),
        })),
      ],
      hooks: { setCursor: [(self) => showValues(self.cursor.idx ?? data.x.length - 1)] },
    };
  }

  /** Show the values at an index in the legend. */
  function showValues(index) {
    if (!data?.x.length) return;
    legend.replaceChildren(
      h("li", { class: "when" }, data.labels[index]),
      ...data.series.map(({ name, values }, position) =>
        h("li", {}, lineSample(position, data.kind), `${name} `, h("output", {}, number(values[index])))));
  }

  function moveCursor(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !plot) return;
    event.preventDefault();
    const last = data.x.length - 1;
    const index = Math.min(last, Math.max(0, (plot.cursor.idx ?? last) + step));
    plot.setCursor({ left: plot.valToPos(data.x[index], "x"), top: 10 });
    showValues(index);
    const values = data.series.map((series) => `${series.name} ${number(series.values[index])}`);
    announced.textContent = `${data.labels[index]}: ${values.join(", ")}`;
  }

  return { draw, clear };
}

function lineSample(index, kind) {
  const isBand = kind === "band" && index > 0;
  const line = { x1: 0, y1: 5, x2: 18, y2: 5, "stroke-width": isBand && index !== MARKED ? 1 : 3, class: isBand ? (index === MARKED ? "stroke-bad" : "stroke-muted") : seriesName(index) };
  const dash = isBand ? (index === EXPECTED ? [4, 4] : []) : dashOf(index);
  return svg("svg", { width: 18, height: 10, "aria-hidden": "true" },
    svg("line", dash.length ? { ...line, "stroke-dasharray": dash.join(" ") } : line));
}

/** Leave room for half a bar, or around a single point, at both ends. */
function padRange(self) {
  const x = self.data[0];
  const step = x.length > 1 ? Math.min(...x.slice(1).map((value, index) => value - x[index])) : self.scales.x.time ? 86400 : 1;
  return [x[0] - step / 2, x.at(-1) + step / 2];  // uPlot's own range around a single point is years wide
}

function rangeFromZero(_, min, max) {
  if (min === null) return [0, 1];
  const [low, high] = [Math.min(0, min), Math.max(0, max)];
  const padding = (high - low || 1) * 0.06;
  return [low < 0 ? low - padding : 0, high > 0 ? high + padding : 0];
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

/** Label ticks with days such as 20 Nov, the year where it changes, and the time of day between days. */
function timeTicks(self, ticks) {
  let year = null;
  return ticks.map((tick) => {
    const date = new Date(tick * 1000);
    if (tick % 86400) return date.toISOString().slice(11, 16);
    const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
    const text = date.getUTCFullYear() === year ? day : `${day}\n${date.getUTCFullYear()}`;
    year = date.getUTCFullYear();
    return text;
  });
}

const isStacked = ({ kind, series }) => (kind === "bar" || kind === "area") && series.length > 1
  && series.every(({ values }) => values.every((value) => value === null || value >= 0));

/** The values to draw: of stacked series, each with those after it added, so that a later one covers the lower part. */
function drawnValues(data) {
  const lists = data.series.map(({ values }) => values);
  if (!isStacked(data)) return lists;
  return lists.map((_, position) => data.x.map((__, index) => lists.slice(position).reduce((sum, values) => sum + (values[index] ?? 0), 0)));
}

/** Return a text that is the same for data that differ in their values alone. */
const shapeOf = ({ title, kind, isTime, labels, series }) => JSON.stringify([title, kind, isTime, labels, series.map(({ name }) => name)]);

/** Create a table of the data that `read` returns, built only while it is open, because few readers open it. */
function valuesTable(read) {
  const element = h("details", {}, h("summary", {}, "Show as a table"));
  const update = () => {
    const built = element.children[1];
    if (!element.open) built?.remove();
    else if (built) built.firstChild.replaceWith(tableOf(read()));
    else element.append(h("div", { class: "scroll", role: "group", "aria-label": read().title, tabindex: "0" }, tableOf(read())));
  };
  element.addEventListener("toggle", update);
  return { element, update };
}

function tableOf(data) {
  const skipped = Math.max(0, data.labels.length - MAX_TABLE_ROWS);
  const rows = data.labels.slice(skipped).map((label, position) => ({ label, index: position + skipped }));
  return h("table", {},
    h("caption", { class: "hidden" }, data.title),
    h("thead", {}, h("tr", {},
      h("th", { scope: "col" }, data.isTime ? "Time" : "Value"),
      ...data.series.map(({ name }) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, ...rows.reverse().map(({ label, index }) =>
      h("tr", {}, h("th", { scope: "row" }, label),
        ...data.series.map(({ values }) => h("td", { class: "number" }, number(values[index])))))));
}
