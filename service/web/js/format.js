// Numbers and times as people read them.

const NONE = "–";
const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

export function count(value) {
  return missing(value) ? NONE : value.toLocaleString("en");
}

export function percent(value, digits = 0) {
  return missing(value) ? NONE : `${(100 * value).toFixed(digits)} %`;
}

export function fixed(value, digits = 2) {
  if (missing(value)) return NONE;
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", "−");
}

// Gaps span sixteen powers of ten.
export function tiny(value) {
  if (missing(value)) return NONE;
  if (value === 0) return "0";
  return Math.abs(value) < 1e-3 ? value.toExponential(1).replace("-", "−") : fixed(value, 3);
}

export function duration(seconds) {
  if (missing(seconds)) return NONE;
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return `${(1e6 * seconds).toFixed(0)} µs`;
  if (seconds < 1) return `${(1e3 * seconds).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(0)} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(0)} h`;
  return `${(seconds / 86400).toFixed(0)} days`;
}

export function ago(iso, now = Date.now()) {
  if (!iso) return NONE;
  const seconds = Math.max((now - Date.parse(iso)) / 1000, 0);
  return seconds < 1 ? "just now" : `${duration(Math.max(Math.round(seconds), 1)).replace(".0", "")} ago`;
}

const PLACE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export function moment(iso) {
  return iso ? PLACE.format(new Date(iso)) : NONE;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
