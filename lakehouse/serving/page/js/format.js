// Numbers, times and shares as people read them. All times are UTC.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const some = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const compact = (value) => (value === null || value === undefined ? "–" : short.format(value));

/** A number with as many decimals as are worth reading. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? whole.format(value) : some.format(value);
}

/** Events a second. */
export const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toFixed(1) : whole.format(value));

/** A share as a percentage. It says 100 % or 0 % only where it is exactly that. */
export function share(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0 || value === 1) return `${value * 100} %`;
  const percent = value * 100;
  for (const digits of [1, 2, 3]) {
    const text = percent.toFixed(digits);
    if (Number(text) > 0 && Number(text) < 100) return `${text} %`;
  }
  return value < 0.5 ? "< 0.001 %" : "> 99.999 %";
}

/** How long something takes or is ago, in its two largest units at most. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${whole.format(Math.round(seconds / 86400))} days`;
}

/** 2025-11-20 14:15:03, from a time as the API writes it. */
export const moment = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?Z?$/, "") : "–");

/** Seconds since 1970 of a day such as 2025-11-20. */
export const epoch = (day) => Date.parse(`${day}T00:00:00Z`) / 1000;

/** The day so many days after another one. */
export const dayAfter = (day, days) => new Date((epoch(day) + days * 86400) * 1000).toISOString().slice(0, 10);

export const today = () => new Date().toISOString().slice(0, 10);

export const plural = (many, one, more = `${one}s`) => `${count(many)} ${many === 1 ? one : more}`;
