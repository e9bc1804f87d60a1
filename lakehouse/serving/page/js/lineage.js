// Draw lineage as a graph whose nodes are links. dagre places them.

import dagre from "../vendor/dagre/dagre.esm.js";
import { h, svg } from "./dom.js";
import { plural } from "./format.js";

const HEIGHT_PX = 34;
const CHARACTER_PX = 7.4;
const BOLD = 1.12;
const MAX_CHARACTERS = 44;
const NARROW_PX = 640;

/**
 * Draw a graph of the API into `figure`: `nodes`, `edges` as [from, to] and `left_out`.
 *
 * `current` is the node in the middle, `hrefOf(node)` the address behind a node, and `kindOf(node)` the class of its box.
 */
export function drawLineage(figure, { nodes, edges, left_out: leftOut }, current, hrefOf, kindOf) {
  const graph = narrowest(nodes, edges, current, figure.clientWidth);
  const { width, height } = graph.graph();
  const drawing = svg("svg", { class: "lineage", width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": `Lineage of ${current}`, role: "group" },
    svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8Z" }))),
    ...graph.edges().map((edge) => svg("path", { class: edgeClass(edge, current), d: pathOf(graph.edge(edge).points), "marker-end": "url(#arrow)", "aria-hidden": "true" })),
    ...nodes.map((name) => node(name, graph.node(name), name === current, hrefOf(name), kindOf(name))));
  const holder = h("div", { class: "scroll drawing", role: "group", "aria-label": "Drawing of the lineage", tabindex: "0" }, drawing);
  figure.replaceChildren(holder, ...(leftOut ? [h("p", { class: "aside" }, `${plural(leftOut, "more node")} further away left out.`)] : []));
  const { x, y } = graph.node(current);
  holder.scrollTo(x - holder.clientWidth / 2, y - holder.clientHeight / 2);
}

/** Lay out from left to right; on narrow screens from top to bottom, if that is narrower. */
function narrowest(nodes, edges, current, width) {
  const graph = layout(nodes, edges, current, "LR");
  if (width >= NARROW_PX || graph.graph().width <= width) return graph;
  const tall = layout(nodes, edges, current, "TB");
  return tall.graph().width < graph.graph().width ? tall : graph;
}

function layout(nodes, edges, current, direction) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: direction, nodesep: 12, ranksep: direction === "LR" ? 56 : 40, marginx: 4, marginy: 4 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const name of nodes) graph.setNode(name, { width: shortened(name).length * CHARACTER_PX * (name === current ? BOLD : 1) + 22, height: HEIGHT_PX });
  for (const [from, to] of edges) graph.setEdge(from, to);
  dagre.layout(graph);
  return graph;
}

const shortened = (name) => (name.length > MAX_CHARACTERS ? `${name.slice(0, MAX_CHARACTERS - 1)}…` : name);

const edgeClass = ({ v, w }, current) => (v === current || w === current ? "edge near" : "edge");

/** A path through points with rounded corners. */
function pathOf(points) {
  const at = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  const curves = points.slice(1, -1).map((point, index) => `Q${at(point)} ${at(index === points.length - 3 ? points.at(-1) : middle(point, points[index + 2]))}`);
  return curves.length ? `M${at(points[0])}${curves.join("")}` : `M${points.map(at).join("L")}`;
}

function node(name, { x, y, width, height }, isCurrent, href, kind) {
  const parts = [
    svg("title", {}, name),
    svg("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 5 }),
    svg("text", { x, y: y + 4.5, "text-anchor": "middle" }, shortened(name)),
  ];
  return isCurrent
    ? svg("g", { class: `node current ${kind}`, "aria-current": "true" }, ...parts)
    : svg("a", { class: `node ${kind}`, href, "aria-label": name }, ...parts);
}
