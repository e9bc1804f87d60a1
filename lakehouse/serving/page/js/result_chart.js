// Draw the rows of a query as a chart header says: `line x=dt y=revenue by=country`.

import { createChart } from "./chart.js";
import { h } from "./dom.js";
import { number, plural } from "./format.js";
import { barTable, isNumeric, isTimeColumn, resultTable, seconds, text } from "./result.js";

const MAX_SERIES = 9;
const MAX_BARS = 40;
const MAX_ROWS = 200;

/** Draws into `figure`. The chart that it makes is kept, so that new rows replace old ones in place. */
export function createResultChart(figure) {
  const plot = createChart(figure);

  /** Draw `rows`, lists of values in the order of `columns`, as `chart` says: kind, x, y, by. */
  function draw(title, chart, columns, rows) {
    const unknown = [chart.x, chart.by, ...chart.y].find((name) => name && !columns.some((column) => column.name === name));
    if (unknown) return plot.clear(problem(`There is no column ${unknown}; there are ${columns.map((column) => column.name).join(", ")}.`));
    if (!rows.length) return plot.clear(h("p", { class: "none" }, "There are no rows."));
    if (chart.kind === "table") return plot.clear(...tableOf(title, columns, rows));
    if (chart.kind === "number") return plot.clear(numberOf(chart, columns, rows));
    const index = (name) => columns.findIndex((column) => column.name === name);
    const words = chart.y.find((name) => !isNumeric(columns[index(name)]));
    if (words) return plot.clear(problem(`${words} is ${columns[index(words)].type.toLowerCase()}; a ${chart.kind} needs numbers as y.`));
    drawSeries(title, chart, columns[index(chart.x)], index, rows);
  }

  function drawSeries(title, chart, xColumn, index, rows) {
    const known = rows.filter((row) => row[index(chart.x)] !== null);
    const { series, leftOut, repeated } = seriesOf(chart, index, known);
    if (repeated !== null) {
      const columns = [chart.x, chart.by].filter(Boolean).join(" and ");
      return plot.clear(problem(`Several rows have ${columns} ${repeated}. Group the SELECT by ${columns}.`));
    }
    const note = leftOut ? [h("p", { class: "aside" }, `The ${MAX_SERIES} largest are shown; ${leftOut} are left out.`)] : [];
    const isTime = isTimeColumn(xColumn);
    if (!isTime && !isNumeric(xColumn)) return drawWords(title, series, note);
    const x = (value) => (isTime ? seconds(value) : Number(value));
    const values = [...new Set(known.map((row) => row[index(chart.x)]))].sort((a, b) => x(a) - x(b));
    plot.draw({
      title,
      kind: chart.kind,
      isTime,
      x: values.map(x),
      labels: values.map(text),
      series: series.map(({ name, byX }) => ({ name, values: values.map((value) => byX.get(value) ?? null) })),
    });
    note.forEach((element) => figure.append(element));
  }

  /** Draw bars of words, for each series one after the other. */
  function drawWords(title, series, note) {
    const bars = series.flatMap(({ name, byX }) => {
      const pairs = [...byX].slice(0, MAX_BARS);
      const heading = series.length > 1 ? [h("p", { class: "bars-title" }, name)] : [];
      const rest = byX.size > pairs.length ? [h("p", { class: "aside" }, `${plural(byX.size - pairs.length, "more row")} left out.`)] : [];
      return [...heading, barTable(`${title}: ${name}`, pairs), ...rest];
    });
    plot.clear(...bars, ...note);
  }

  return { draw, clear: plot.clear };
}

/** An error in the place of a chart. */
export const problem = (message) => h("div", { class: "error", role: "status" }, h("pre", {}, message));

/** Make a series of each column of `y`, or of each value of `by`. The largest ones are kept. */
function seriesOf(chart, index, rows) {
  const byName = new Map();
  for (const row of rows) {
    for (const y of chart.y) {
      const name = chart.by ? (row[index(chart.by)] === null ? "null" : text(row[index(chart.by)])) : y;
      if (!byName.has(name)) byName.set(name, new Map());
      const byX = byName.get(name);
      const x = row[index(chart.x)];
      if (byX.has(x)) return { series: [], leftOut: 0, repeated: [text(x), chart.by && name].filter(Boolean).join(", ") };
      byX.set(x, row[index(y)] === null ? null : Number(row[index(y)]));
    }
  }
  const size = (byX) => [...byX.values()].reduce((sum, value) => sum + Math.abs(value ?? 0), 0);
  const all = [...byName].map(([name, byX]) => ({ name, byX }));
  const kept = all.length > MAX_SERIES ? all.sort((a, b) => size(b.byX) - size(a.byX)).slice(0, MAX_SERIES) : all;
  return { series: kept, leftOut: all.length - kept.length, repeated: null };
}

function numberOf(chart, columns, rows) {
  const [name] = chart.y;
  const value = rows[0][columns.findIndex((column) => column.name === name)];
  const isNumber = value !== null && value !== "" && !Number.isNaN(Number(value));
  return h("dl", { class: "totals" }, h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, value === null ? "–" : isNumber ? number(Number(value)) : text(value))));
}

function tableOf(title, columns, rows) {
  const table = resultTable(title, columns, rows.slice(0, MAX_ROWS));
  return [
    h("div", { class: "scroll tall", role: "group", "aria-label": title, tabindex: "0" }, table),
    ...(rows.length > MAX_ROWS ? [h("p", { class: "aside" }, `The first ${MAX_ROWS} of ${rows.length} rows are shown.`)] : []),
  ];
}
