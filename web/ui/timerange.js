// The picker of the window of time.

import { byId, el, utc } from "./dom.js";
import { closeFloating, popover } from "./floating.js";
import { field, iso, presets, readField, relative, windowText } from "./times.js";
import { span } from "./units.js";

/**
 * bindTime connects the time button.
 * @param {(patch: {from: string, until: string}) => void} choose
 * @param {() => {from: string, until: string, window: {from: number, until: number}}} current
 * @returns {() => void} shows the current window on the button
 */
export function bindTime(choose, current) {
  const button = byId("time");
  button.addEventListener("click", () => open(button, choose, current()));
  return () => {
    const c = current();
    const text = windowText(c.from, c.until, utc());
    byId("time-text").textContent = text;
    button.setAttribute("aria-label", "Time: " + text);
  };
}

function open(button, choose, now) {
  const take = (from, until) => {
    closeFloating();
    choose({ from, until });
  };
  const quick = presets.map((p) => el("button", {
    type: "button", "aria-pressed": String(now.from === p && now.until === "now"), click: () => take(p, "now"),
  }, "Last " + span(relative(p))));
  const from = input("range-from", field(now.window.from, utc()));
  const until = input("range-until", field(now.window.until, utc()));
  const error = el("p", { class: "field-error", role: "alert", hidden: true });
  const form = el("form", { submit: (e) => {
    e.preventDefault();
    const f = readField(from.value, utc());
    const u = readField(until.value, utc());
    error.hidden = f !== null && u !== null && f < u;
    error.textContent = f === null || u === null ? "Give both times." : "The beginning must be before the end.";
    if (error.hidden) take(iso(f), iso(u));
  } },
  el("h2", {}, "From – until, in " + (utc() ? "UTC" : "this browser's time")),
  el("div", { class: "range" }, el("label", { for: "range-from" }, "From"), from, el("label", { for: "range-until" }, "Until"), until),
  error,
  el("div", { class: "row" }, el("button", { class: "primary" }, "Apply"), el("span", { class: "fine" }, "The end is not included.")));
  popover(button, "Window of time", el("div", { class: "presets" }, ...quick), form);
}

/** @returns {HTMLInputElement} */
function input(id, value) {
  return /** @type {any} */ (el("input", { id, type: "datetime-local", step: 1, required: true, ".value": value }));
}
