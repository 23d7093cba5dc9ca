// A long list of lines of code with what each costs, drawn only where it is in
// view, so that ten thousand rows cost as much as forty.

import { el } from "./dom.js";
import { columns } from "./sourcelines.js";
import { format, percent } from "./units.js";

const rowHeight = 20; // px, as in source.css
const spare = 12; // rows drawn beyond the view

/**
 * What a listing tells its page.
 * @typedef {Object} ListingEvents
 * @property {(row: import("./sourcelines.js").Row) => void} pick    a line or an instruction was chosen
 * @property {(name: string) => void} follow a called function was chosen
 * @property {(name: string) => boolean} known whether there is something to see of a called function
 */

export class Listing {
  /** @param {HTMLElement} scroller @param {ListingEvents} events */
  constructor(scroller, events) {
    this.scroller = scroller;
    this.events = events;
    this.sheet = el("div", { class: "sheet-rows", role: "presentation" });
    scroller.replaceChildren(this.sheet);
    /** @type {import("./sourcelines.js").Row[]} */
    this.rows = [];
    this.marked = new Set();
    this.cursor = -1;
    this.unit = "count";
    this.whole = 0;
    scroller.addEventListener("scroll", () => this.plan(), { passive: true });
    new ResizeObserver(() => this.plan()).observe(scroller);
    scroller.addEventListener("click", (e) => this.onClick(e));
    scroller.addEventListener("keydown", (e) => this.onKey(e));
  }

  /**
   * show lists rows.
   * @param {import("./sourcelines.js").Row[]} rows
   * @param {string} unit of the costs
   * @param {number} whole what shares are of: the function's cost
   * @param {boolean} stay the list stays where it is
   */
  show(rows, unit, whole, stay) {
    this.rows = rows;
    this.unit = unit;
    this.whole = whole;
    this.largest = rows.reduce((most, r) => Math.max(most, r.cum), 0);
    const widest = rows.reduce((most, r) => Math.max(most, r.kind === "line" ? columns(r.text) : 0), 0);
    this.sheet.style.height = rows.length * rowHeight + "px";
    this.sheet.style.setProperty("--widest", widest + 2 + "ch");
    this.scroller.setAttribute("aria-rowcount", String(rows.length));
    this.cursor = -1;
    if (!stay) this.scroller.scrollTo(0, 0);
    this.plan(true);
  }

  /** mark marks rows by their keys; the cursor goes to the first of them. */
  mark(keys) {
    this.marked = keys;
    if (!keys.has(this.rows[this.cursor]?.key)) this.cursor = this.rows.findIndex((r) => r.key && keys.has(r.key));
    this.plan(true);
  }

  /** reveal brings a row into view, unless it is there; -1 is none. */
  reveal(i) {
    const s = this.scroller;
    if (i < 0 || (i * rowHeight >= s.scrollTop && (i + 1) * rowHeight <= s.scrollTop + s.clientHeight)) return;
    s.scrollTop = Math.max(0, i * rowHeight - s.clientHeight / 3);
    this.plan();
  }

  /** revealMarked brings a marked row into view if none is. */
  revealMarked() {
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.ceil(scrollTop / rowHeight);
    const last = Math.floor((scrollTop + clientHeight) / rowHeight);
    if (this.rows.slice(first, last).some((r) => r.key && this.marked.has(r.key))) return;
    this.reveal(this.rows.findIndex((r) => r.key && this.marked.has(r.key)));
  }

  /** plan draws the rows in view if others are drawn than those. */
  plan(force = false) {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / rowHeight) - spare);
    const last = Math.min(this.rows.length, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / rowHeight) + spare);
    if (!force && first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const out = [];
    for (let i = first; i < last; i++) out.push(this.row(i));
    this.sheet.replaceChildren(...out);
    const at = this.cursor >= first && this.cursor < last ? this.id(this.cursor) : "";
    if (at) this.scroller.setAttribute("aria-activedescendant", at);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  id(i) {
    return `${this.scroller.id}-${i}`;
  }

  /** row makes the element of the i-th row. */
  row(i) {
    const r = this.rows[i];
    const on = r.key !== "" && this.marked.has(r.key);
    const e = el("div", {
      class: `l-row l-${r.kind}` + (on ? " on" : "") + (i === this.cursor ? " here" : ""), id: this.id(i), role: "row",
      "data-i": i, "aria-rowindex": i + 1, "aria-selected": r.key ? String(on) : null, title: r.title || null,
    });
    e.style.top = i * rowHeight + "px";
    if (r.kind === "file" || r.kind === "gap") {
      e.append(el("span", { class: "l-says", role: "gridcell" }, r.kind === "gap" ? "⋯ " + r.text : r.text));
      return e;
    }
    e.append(this.gutter(r), el("span", { class: "l-text", role: "gridcell" }, r.text, this.target(r)));
    if (r.place) e.append(el("span", { class: "l-place", role: "gridcell" }, r.place));
    return e;
  }

  /** gutter is what stands left of the code: what it costs, and its number. */
  gutter(r) {
    const cum = el("i", { class: "l-bar", "aria-hidden": "true" });
    const self = el("i", { class: "l-bar l-bar-self", "aria-hidden": "true" });
    const share = (v) => (this.largest > 0 ? Math.max(0, Math.min(1, v / this.largest)) : 0);
    cum.style.setProperty("--share", share(r.cum));
    self.style.setProperty("--share", share(r.self));
    const cell = (v, what) => el("span", { class: "l-num", role: "gridcell", title: v ? `${what} ${format(v, this.unit)}, ${percent(v, this.whole)} of the function` : null }, v ? format(v, this.unit) : "");
    return el("span", { class: "l-gutter" }, cum, self, cell(r.self, "Self"), cell(r.cum, "Total"), el("span", { class: "l-no", role: "gridcell" }, r.number));
  }

  /** target is the way to the function that an instruction calls. */
  target(r) {
    if (!r.target || !this.events.known(r.target)) return null;
    return el("button", { type: "button", class: "l-target", tabindex: -1, "data-target": r.target, title: `Source of ${r.target} (Enter)`, "aria-label": `Source of ${r.target}` }, "→");
  }

  onClick(e) {
    const to = e.target.closest("[data-target]");
    if (to) {
      this.events.follow(to.dataset.target);
      return;
    }
    const row = e.target.closest(".l-row");
    if (row && String(getSelection()) === "") this.go(Number(row.dataset.i));
  }

  onKey(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / rowHeight) - 2);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 }[e.key];
    const target = this.rows[this.cursor]?.target;
    if (step === undefined && !(e.key === "Enter" && target && this.events.known(target))) return;
    e.preventDefault();
    if (step === undefined) this.events.follow(target);
    else this.move(step);
  }

  /** move puts the cursor on another row that can be chosen. */
  move(step) {
    const from = this.cursor < 0 ? Math.ceil(this.scroller.scrollTop / rowHeight) - 1 : this.cursor;
    let i = Math.max(0, Math.min(this.rows.length - 1, from + step));
    const way = step < 0 && i > 0 ? -1 : 1;
    while (this.rows[i] && !this.rows[i].key) i += way;
    this.go(i);
  }

  /** go chooses the i-th row. */
  go(i) {
    if (!this.rows[i]?.key) return;
    this.cursor = i;
    this.reveal(i);
    this.events.pick(this.rows[i]);
  }
}
