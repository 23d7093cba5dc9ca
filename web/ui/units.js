// Numbers and times as people read them. Pure functions, no DOM.

// Units: name, size, and from which value on they are used.
const timeSteps = [["ns", 1, 0], ["µs", 1e3, 1e3], ["ms", 1e6, 1e6], ["s", 1e9, 1e9], ["min", 60e9, 100e9], ["h", 3600e9, 6000e9], ["d", 86400e9, 100 * 3600e9]];
const byteSteps = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].map((n, i) => [n, 1024 ** i, 1024 ** i]);
const countSteps = ["", "k", "M", "G", "T"].map((n, i) => [n, 1000 ** i, 1000 ** i]);

/**
 * digits writes v with three significant digits; whole numbers have no
 * decimals, and numbers of four digits are not shortened.
 * @param {number} v
 * @returns {string}
 */
export function digits(v) {
  const a = Math.abs(v);
  if (Number.isInteger(v)) return String(v);
  if (a >= 100) return String(Math.round(v));
  if (a < 0.001) return v.toExponential(1);
  return v.toPrecision(3);
}

/** @param {number} a @param {[string, number, number][]} steps @returns {[string, number]} name and size of the unit for a */
function stepOf(a, steps) {
  let i = 0;
  while (i + 1 < steps.length && a >= steps[i + 1][2]) i++;
  // 999.7 would round to 1000 of a unit that has a larger neighbour.
  if (i + 1 < steps.length && Math.round(a / steps[i][1]) * steps[i][1] >= steps[i + 1][2]) i++;
  return [steps[i][0], steps[i][1]];
}

/** scaled multiplies the sizes of steps: 1 ms = 1e6 ns. */
const scaled = (steps, by) => steps.map(([n, size, from]) => [n, size / by, from / by]);

/**
 * scaleOf is the unit people read a value in.
 * @param {number} a not negative
 * @param {string} unit nanoseconds, bytes, count, cores, bytes/s, 1/s, or a pprof unit of another producer
 * @returns {[string, number]} its name and how many of unit it holds
 */
function scaleOf(a, unit) {
  const perSecond = unit.endsWith("/s") ? "/s" : "";
  const base = perSecond ? unit.slice(0, -2) : unit;
  const timed = ([name, size]) => [name + perSecond, size];
  switch (base) {
    case "nanoseconds": return timed(a === 0 ? ["s", 1e9] : stepOf(a, timeSteps));
    case "microseconds": return timed(stepOf(a, scaled(timeSteps, 1e3)));
    case "milliseconds": return timed(stepOf(a, scaled(timeSteps, 1e6)));
    case "seconds": return timed(stepOf(a, scaled(timeSteps, 1e9)));
    case "bytes": return timed(stepOf(a, byteSteps));
    case "cores": return a > 0 && a < 0.0995 ? ["mcores", 1e-3] : ["cores", 1];
    case "count": case "objects": case "1": case "": return timed(stepOf(a, countSteps));
  }
  const [name, size] = stepOf(a, countSteps);
  return [(name + " " + unit).trim(), size];
}

/** join writes a number and its unit. */
function join(number, name) {
  if (name === "cores" && number === "1") name = "core";
  return name ? number + " " + name : number;
}

/**
 * format writes a value of an API answer in its unit for a person.
 * @param {number} v @param {string} unit see scaleOf
 */
export function format(v, unit) {
  if (!Number.isFinite(v)) return "–";
  const [name, size] = scaleOf(Math.abs(v), unit);
  return join(digits(v / size), name);
}

/**
 * axis writes the marks of an axis, all in the unit of the largest.
 * @param {number[]} marks @param {string} unit
 * @returns {string[]}
 */
export function axis(marks, unit) {
  const [name, size] = scaleOf(Math.max(...marks), unit);
  return marks.map((v) => join(String(Number((v / size).toPrecision(6))), name));
}

/**
 * percent writes part ÷ whole.
 * @param {number} part @param {number} whole
 */
export function percent(part, whole) {
  if (!whole) return "–";
  const p = (100 * part) / whole;
  if (p === 0) return "0%";
  if (Math.abs(p) < 0.01) return "<0.01%";
  return (Math.abs(p) >= 99.95 ? String(Math.round(p)) : Math.abs(p) >= 10 ? p.toFixed(1) : p.toFixed(2)) + "%";
}

/** count writes a whole number with thin group marks: 12 345. */
export function count(n) {
  return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** plural writes "1 profile", "12 profiles". */
export function plural(n, one, many = one + "s") {
  return count(n) + " " + (n === 1 ? one : many);
}

/** span writes a length of time given in seconds with two parts: "1 h 5 min". */
export function span(seconds) {
  const s = Math.abs(seconds);
  if (s < 60) return digits(s) + " s";
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const i = parts.findIndex(([, size]) => s >= size);
  const [name, size] = parts[i];
  const whole = Math.floor(s / size);
  const [nextName, nextSize] = parts[i + 1];
  const rest = Math.floor((s - whole * size) / nextSize);
  return `${whole} ${name}` + (rest ? ` ${rest} ${nextName}` : "");
}

/** ago writes how long before now (both ms) something was. */
export function ago(then, now) {
  const s = (now - then) / 1000;
  if (s < 0) return "in " + span(Math.max(1, Math.round(-s)));
  if (s < 1) return "just now";
  return span(s < 60 ? Math.floor(s) : s) + " ago";
}

const two = (n) => String(n).padStart(2, "0");

/**
 * parts splits a time into its fields, in UTC or the browser's zone.
 * @param {number} ms unix milliseconds @param {boolean} utc
 */
export function parts(ms, utc) {
  const d = new Date(ms);
  return utc
    ? { y: d.getUTCFullYear(), mo: d.getUTCMonth() + 1, d: d.getUTCDate(), h: d.getUTCHours(), m: d.getUTCMinutes(), s: d.getUTCSeconds() }
    : { y: d.getFullYear(), mo: d.getMonth() + 1, d: d.getDate(), h: d.getHours(), m: d.getMinutes(), s: d.getSeconds() };
}

/** dateTime writes 2026-11-21 09:05:00, the zone being said elsewhere. */
export function dateTime(ms, utc, seconds = true) {
  const p = parts(ms, utc);
  return `${p.y}-${two(p.mo)}-${two(p.d)} ${two(p.h)}:${two(p.m)}` + (seconds ? ":" + two(p.s) : "");
}

/** clock writes 09:05, or 09:05:30 where the second matters. */
export function clock(ms, utc, seconds = false) {
  const p = parts(ms, utc);
  return `${two(p.h)}:${two(p.m)}` + (seconds ? ":" + two(p.s) : "");
}

/** day writes 11-21. */
export function day(ms, utc) {
  const p = parts(ms, utc);
  return `${two(p.mo)}-${two(p.d)}`;
}

/**
 * ticks gives round values from 0 to at least max for an axis of about n
 * marks; bytes are cut at powers of two.
 * @param {number} max @param {string} unit @param {number} n
 * @returns {number[]}
 */
export function ticks(max, unit, n = 3) {
  if (!(max > 0)) return [0, 1];
  const raw = max / n;
  let step;
  if (unit.startsWith("bytes")) {
    const base = 1024 ** Math.max(0, Math.floor(Math.log(raw) / Math.log(1024)));
    step = base * 2 ** Math.ceil(Math.log2(Math.max(raw / base, 2 ** -20)));
  } else {
    const base = 10 ** Math.floor(Math.log10(raw));
    step = base * ([1, 2, 2.5, 5, 10].find((f) => f * base >= raw * 0.999) ?? 10);
  }
  const out = [];
  for (let v = 0; ; v += step) {
    out.push(v);
    if (v >= max) return out;
  }
}

const timeTicks = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/**
 * timeMarks gives the round moments between two times for an axis.
 * @param {number} from ms @param {number} until ms @param {number} n most marks wanted @param {boolean} utc
 * @returns {{at: number, text: string}[]}
 */
export function timeMarks(from, until, n, utc) {
  const seconds = (until - from) / 1000;
  const step = 1000 * (timeTicks.find((t) => seconds / t <= n) ?? timeTicks[timeTicks.length - 1]);
  const zone = utc ? 0 : new Date(from).getTimezoneOffset() * 60000;
  const out = [];
  for (let t = Math.ceil((from - zone) / step) * step + zone; t <= until; t += step) {
    const p = parts(t, utc);
    const midnight = p.h === 0 && p.m === 0 && p.s === 0;
    out.push({ at: t, text: midnight || step >= 86400e3 ? day(t, utc) : clock(t, utc, step < 60e3) });
  }
  return out;
}
