// Elements made from text, never from markup: whatever is in the data is shown as it is.

/** An element with attributes, listeners (`onclick: …`) and children; text becomes text nodes, null and false nothing. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set an element's text, only where it differs, so that screen readers are not told the same thing again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The stream to begin with: the first that anything is known of. */
export const firstWithData = (streams) => (streams.find((stream) => stream.last_day !== null) ?? streams[0])?.stream ?? null;

/** Make these the options of a `<select>`; what was chosen stays chosen where it is still there, else `first` is. */
export function choices(select, options, first = null) {
  const before = select.value;
  const wanted = options.map((option) => (typeof option === "string" ? { value: option, label: option } : option));
  const same = wanted.length === select.options.length && wanted.every((o, i) => select.options[i].value === o.value);
  if (same) return;
  select.replaceChildren(...wanted.map((o) => h("option", { value: o.value }, o.label)));
  const has = (value) => wanted.some((o) => o.value === value);
  select.value = has(before) ? before : has(first) ? first : wanted.length ? wanted[0].value : "";
}
