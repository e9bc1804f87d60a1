// Format numbers, times and shares for readers. All times are UTC. A missing value is an en dash.

const MISSING = "–";
const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const twoDecimals = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const abbreviated = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const isMissing = (value) => value === null || value === undefined;

export const count = (value) => (isMissing(value) ? MISSING : integer.format(value));
export const compact = (value) => (isMissing(value) ? MISSING : abbreviated.format(value));

/** A number, with two decimals below 1,000. */
export function number(value) {
  if (isMissing(value)) return MISSING;
  return Math.abs(value) >= 1000 ? integer.format(value) : twoDecimals.format(value);
}

/** Events per second. */
export const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toFixed(1) : integer.format(value));

/** A share as a percentage. Only exactly 0 and 1 are shown as 0 % and 100 %. */
export function share(value) {
  if (isMissing(value)) return MISSING;
  if (value === 0 || value === 1) return `${value * 100} %`;
  const percent = value * 100;
  for (const digits of [1, 2, 3]) {
    const text = percent.toFixed(digits);
    if (Number(text) > 0 && Number(text) < 100) return `${text} %`;
  }
  return value < 0.5 ? "< 0.001 %" : "> 99.999 %";
}

/** A duration in one unit, from seconds to days. */
export function duration(seconds) {
  if (isMissing(seconds)) return MISSING;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${integer.format(Math.round(seconds / 86400))} days`;
}

/** 2025-11-20 14:15:03, from a timestamp of the API. */
export const timestamp = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?Z?$/, "") : MISSING);

/** Seconds from 1970 to the start of a day such as 2025-11-20. */
export const epoch = (day) => Date.parse(`${day}T00:00:00Z`) / 1000;

export const addDays = (day, days) => new Date((epoch(day) + days * 86400) * 1000).toISOString().slice(0, 10);

export const today = () => new Date().toISOString().slice(0, 10);

export const plural = (quantity, one, many = `${one}s`) => `${count(quantity)} ${quantity === 1 ? one : many}`;

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A size in one unit, from bytes to tebibytes. */
export function bytes(value) {
  if (isMissing(value)) return MISSING;
  const unit = value > 0 ? Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log2(value) / 10)) : 0;
  return `${twoDecimals.format(Number((value / 1024 ** unit).toPrecision(3)))} ${BYTE_UNITS[unit]}`;
}

/** How long ago a timestamp of the API was. */
export const since = (text) => `${duration(Math.max(0, (Date.now() - Date.parse(text)) / 1000))} ago`;
