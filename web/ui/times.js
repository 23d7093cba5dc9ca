// Windows of time: relative and absolute, as text and as ms. Pure functions.

import { clock, dateTime, day, span } from "./units.js";

const units = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };

export const presets = ["-5m", "-15m", "-30m", "-1h", "-3h", "-6h", "-12h", "-1d", "-2d", "-3d", "-7d", "-14d"];

/** seconds of a relative time such as -1h30m, null if it is none. */
export function relative(text) {
  const m = /^(?:now)?-((?:\d+[smhdw])+)$/.exec(text);
  if (!m) return text === "now" ? 0 : null;
  let sum = 0;
  for (const [, n, u] of m[1].matchAll(/(\d+)([smhdw])/g)) sum += Number(n) * units[u];
  return sum;
}

/** moment reads a time as the API takes it: ms, or null if it cannot be read. */
export function moment(text, now) {
  const ago = relative(text);
  if (ago !== null) return now - ago * 1000;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const t = Date.parse(text);
  return Number.isNaN(t) ? null : t;
}

/**
 * windowOf resolves a state's window; what cannot be read is the last hour.
 * @returns {{from: number, until: number, bad: boolean}} ms
 */
export function windowOf(from, until, now) {
  const u = moment(until, now);
  const f = moment(from, now);
  if (u === null || f === null || f >= u) return { from: now - 3600e3, until: now, bad: true };
  return { from: f, until: u, bad: false };
}

/** windowText is what a window is called: "Last 1 h", or both its ends. */
export function windowText(from, until, utc) {
  const ago = relative(from);
  if (ago && until === "now") return "Last " + span(ago);
  const f = moment(from, Date.now());
  const u = moment(until, Date.now());
  if (f === null || u === null) return from + " … " + until;
  const short = u - f < 10 * 60e3;
  const end = day(f, utc) === day(u, utc) ? clock(u, utc, short) : dateTime(u, utc, short);
  return dateTime(f, utc, short) + " – " + end;
}

/** iso writes ms as the API takes it, without needless parts. */
export const iso = (ms) => new Date(Math.round(ms)).toISOString().replace(/\.000Z$/, "Z");

/** field writes ms for an <input type=datetime-local>, readField reads it. */
export function field(ms, utc) {
  return dateTime(ms, utc).replace(" ", "T");
}

export function readField(text, utc) {
  const t = Date.parse(text + (utc ? "Z" : ""));
  return Number.isNaN(t) ? null : t;
}
