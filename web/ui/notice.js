// What stands in the place of data when there is none: empty and error states.

import { el } from "./dom.js";
import { ago, dateTime, plural } from "./units.js";
import { kindTitle, typeTitle } from "./types.js";

/** failed says what went wrong and what can be done. @param {HTMLElement} box */
export function failed(box, err, again) {
  const advice = {
    0: "Check that the collector runs, then try again.",
    400: "Change the selector, the type or the window of time.",
    401: "Sign in with a token of this collector.",
    403: "Sign in with a token that may read.",
    429: "Many queries run at once. Try again in a moment.",
    503: "The collector says it cannot answer now. Try again in a moment.",
  }[err.status] ?? "Try again; if it stays so, the collector's log says more.";
  fill(box, err.status === 400 ? "This cannot be asked" : "The data could not be loaded", [sentence(err.message), advice], [
    el("button", { type: "button", class: "primary", click: again }, "Try again"),
    err.status === 403 ? el("a", { class: "button", href: "/login" }, "Sign in") : null,
  ]);
}

/**
 * empty says that nothing was found and where something is.
 * @param {HTMLElement} box
 * @param {{type: string, service: string, window: string, filtered: boolean, utc: boolean, now: number,
 *   newest: number|null, types: {name: string, kind: string}[], services: number}} what
 * @param {{goTo: (ms: number) => void, setType: (name: string) => void, clear: () => void}} acts
 */
export function empty(box, what, acts) {
  const lines = [`Nothing of the type “${typeTitle(what.type)}”` + (what.service ? ` of ${what.service}` : "") + ` in this window (${what.window}).`];
  const buttons = [];
  if (what.newest !== null) {
    lines.push(`The newest profile of ${what.service || "any service"} is of ${dateTime(what.newest, what.utc)}, ${ago(what.newest, what.now)}.`);
    buttons.push(el("button", { type: "button", class: "primary", click: () => acts.goTo(what.newest) }, "Go there"));
  } else if (what.services === 0) {
    lines.push("This collector has no profiles of the last two weeks. The targets page shows what its agents scrape and what keeps them from it.");
  }
  const others = what.types.filter((t) => t.name !== what.type).slice(0, 6);
  if (others.length) {
    lines.push(`${plural(others.length, "other type")} ${others.length === 1 ? "is" : "are"} here:`);
    for (const t of others) buttons.push(el("button", { type: "button", title: kindTitle(t.kind), click: () => acts.setType(t.name) }, typeTitle(t.name)));
  }
  if (what.filtered) buttons.push(el("button", { type: "button", click: acts.clear }, "Without the filters"));
  buttons.push(el("a", { class: "button", href: "/targets" }, "See targets"));
  fill(box, "No profiles here", lines, buttons);
}

/** sentence makes one of an error's message. */
export function sentence(s) {
  return s.charAt(0).toUpperCase() + s.slice(1) + (/[.!?…]$/.test(s) ? "" : ".");
}

/** fill writes a notice and shows it. */
export function fill(box, title, lines, buttons) {
  box.replaceChildren(el("h2", {}, title), ...lines.map((l) => el("p", {}, l)),
    el("p", { class: "notice-acts" }, ...buttons.filter(Boolean)));
  box.hidden = false;
}
