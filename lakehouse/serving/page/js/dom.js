// Build elements from text, never from markup, so that data is always shown literally.

/** Create an element with attributes, listeners (`onclick: …`) and children. Null, undefined and false are skipped. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Create an SVG element; see `h`. */
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

/** Set an element's text if it differs. Setting the same text again would make screen readers repeat it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The stream to select first: the first one with computed data, else with events, else the first. */
export const firstWithData = (streams) => (streams.find((stream) => stream.last_day !== null)
  ?? streams.find((stream) => stream.newest_at !== null) ?? streams[0])?.stream ?? null;

/** Set the options of a `<select>`. Keep the selected value if it is still an option, else select `preferred`. */
export function setOptions(select, options, preferred = null) {
  const previous = select.value;
  const wanted = options.map((option) => (typeof option === "string" ? { value: option, label: option } : option));
  const unchanged = wanted.length === select.options.length
    && wanted.every((option, index) => select.options[index].value === option.value);
  if (unchanged) return;
  select.replaceChildren(...wanted.map((option) => h("option", { value: option.value }, option.label)));
  const has = (value) => wanted.some((option) => option.value === value);
  select.value = has(previous) ? previous : has(preferred) ? preferred : wanted.length ? wanted[0].value : "";
}
