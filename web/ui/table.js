// The table of functions (or packages, services, releases): exact, sortable,
// and drawn only where it is in view, so that ten thousand rows cost as much
// as forty.

import { frameColour } from "./colour.js";
import { el, icon } from "./dom.js";
import { nameOf } from "./names.js";
import { format, percent } from "./units.js";

const rowHeight = 27; // px, as in explore.css
const spare = 8; // rows drawn beyond the view

/** @typedef {{name: string, self: number, cum: number, file?: string, line?: number}} Row */

/**
 * What a table tells its page.
 * @typedef {Object} TableEvents
 * @property {(row: Row) => void} pick      a row was chosen
 * @property {(row: Row) => void} sandwich  its callers and callees are wanted
 * @property {(row: Row) => void} source    its lines and instructions are wanted
 * @property {(sort: string) => void} sort  "self", "cum", "name", with "-" before it for the other direction
 * @property {(row: Row, x: number, y: number) => void} menu
 */

export class TopTable {
  /** @param {HTMLElement} scroller holds a <table> with thead and tbody @param {TableEvents} events */
  constructor(scroller, events) {
    this.scroller = scroller;
    this.events = events;
    this.table = scroller.querySelector("table");
    this.body = scroller.querySelector("tbody");
    /** @type {Row[]} */
    this.all = [];
    /** @type {Row[]} */
    this.rows = [];
    this.total = 0;
    this.unit = "count";
    this.sort = "self";
    this.functions = true;
    this.picked = "";
    this.focused = 0;
    this.test = null;
    this.theme = "light";
    scroller.addEventListener("scroll", () => this.plan(), { passive: true });
    new ResizeObserver(() => this.plan()).observe(scroller);
    for (const b of scroller.querySelectorAll("th button")) {
      b.addEventListener("click", () => this.events.sort(nextSort(this.sort, b.dataset.sort)));
    }
    this.body.addEventListener("click", (e) => this.onClick(e));
    this.body.addEventListener("dblclick", (e) => this.withRow(e, (r) => this.functions && this.events.sandwich(r)));
    this.body.addEventListener("contextmenu", (e) => this.withRow(e, (r) => {
      if (!this.functions) return;
      e.preventDefault();
      this.events.menu(r, e.clientX, e.clientY);
    }));
    this.body.addEventListener("keydown", (e) => this.onKey(e));
  }

  /**
   * show takes the answer of /api/v1/top.
   * @param {{rows: Row[], total: number, unit: string}} answer
   * @param {boolean} functions rows are functions, not groups of them
   */
  show(answer, functions) {
    this.all = answer.rows;
    this.total = answer.total;
    this.unit = answer.unit;
    this.functions = functions;
    this.largest = Number.MIN_VALUE;
    for (const r of answer.rows) if (r.self > this.largest) this.largest = r.self;
    this.arrange(true);
  }

  /** setSort orders the rows. */
  setSort(sort) {
    this.sort = sort;
    this.arrange();
  }

  /** filter shows only the rows whose name passes; null shows all. */
  filter(test) {
    this.test = test;
    this.arrange();
  }

  /** pick marks the row of a name. */
  pick(name) {
    this.picked = name;
    this.plan(true);
  }

  setTheme(theme) {
    this.theme = theme;
    this.plan(true);
  }

  /** arrange filters and sorts, and starts again at the top unless the view is to stay. */
  arrange(stay = false) {
    // The search is for functions: groups of them are not left out by it.
    const rows = this.test && this.functions ? this.all.filter((r) => this.test(r.name)) : this.all.slice();
    this.rows = rows.sort(order(this.sort));
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
    for (const th of this.scroller.querySelectorAll("th")) {
      const key = th.querySelector("button")?.dataset.sort;
      const up = this.sort === "name" || (this.sort.startsWith("-") && this.sort !== "-name");
      if (key && this.sort.replace("-", "") === key) th.setAttribute("aria-sort", up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    }
    this.focused = Math.max(0, this.rows.findIndex((r) => r.name === this.picked));
    if (!stay) this.scroller.scrollTop = 0;
    this.plan(true);
  }

  /** plan draws the rows in view if others are drawn than those. */
  plan(force = false) {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / rowHeight) - spare);
    const last = Math.min(this.rows.length, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / rowHeight) + spare);
    if (!force && first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const had = this.body.contains(document.activeElement);
    const out = [spacer(first)];
    for (let i = first; i < last; i++) out.push(this.row(i));
    out.push(spacer(this.rows.length - last));
    this.body.replaceChildren(...out);
    if (had) this.body.querySelector(`tr[data-i="${this.focused}"]`)?.focus({ preventScroll: true });
  }

  /** row makes the element of the i-th row. */
  row(i) {
    const r = this.rows[i];
    const label = this.functions ? nameOf(r.name).short : r.name || "(none)";
    const swatch = el("i", { class: "swatch", "aria-hidden": "true" });
    const bar = el("i", { class: "bar", "aria-hidden": "true" });
    if (this.functions) swatch.style.background = frameColour(r.name, this.theme);
    bar.style.width = Math.max(0, (100 * r.self) / this.largest) + "%";
    return el("tr", {
      "data-i": i, tabindex: i === this.focused ? 0 : -1, "aria-rowindex": i + 2,
      class: r.name === this.picked ? "picked" : null, "aria-current": r.name === this.picked ? "true" : null,
    },
    el("td", { class: "name", title: r.name + (r.file ? `\n${r.file}${r.line ? ":" + r.line : ""}` : "") },
      this.functions ? swatch : null, el("span", {}, label),
      this.functions ? el("button", { class: "row-act row-source", tabindex: -1, "data-act": "source", title: "Source and instructions (o)", "aria-label": `Source of ${r.name}` }, icon("source")) : null,
      this.functions ? el("button", { class: "row-act", tabindex: -1, "data-act": "sandwich", title: "Callers and callees (s)", "aria-label": `Sandwich of ${r.name}` }, icon("sandwich")) : null),
    el("td", { class: "num bar-cell" }, bar, el("span", {}, format(r.self, this.unit))),
    el("td", { class: "num pct" }, percent(r.self, this.total)),
    el("td", { class: "num" }, format(r.cum, this.unit)),
    el("td", { class: "num pct" }, percent(r.cum, this.total)));
  }

  withRow(e, f) {
    const tr = e.target.closest("tr[data-i]");
    if (!tr) return;
    this.focused = Number(tr.dataset.i);
    f(this.rows[this.focused]);
  }

  onClick(e) {
    this.withRow(e, (r) => {
      if (e.target.closest("[data-act=sandwich]")) this.events.sandwich(r);
      else if (e.target.closest("[data-act=source]")) this.events.source(r);
      else this.events.pick(r);
    });
  }

  onKey(e) {
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / rowHeight) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
    const step = steps[e.key];
    if (step !== undefined) {
      e.preventDefault();
      this.focus(Math.max(0, Math.min(this.rows.length - 1, this.focused + step)));
      return;
    }
    const r = this.rows[this.focused];
    if (!r || e.ctrlKey || e.metaKey || e.altKey) return;
    if (e.key === "Enter" || e.key === " ") this.events.pick(r);
    else if (e.key === "s" && this.functions) this.events.sandwich(r);
    else if (e.key === "o" && this.functions) this.events.source(r);
    else return;
    e.preventDefault();
    e.stopPropagation();
  }

  /** focus moves the keyboard to the i-th row and brings it into view. */
  focus(i) {
    this.focused = i;
    const s = this.scroller;
    const head = this.table.tHead.offsetHeight;
    if (i * rowHeight < s.scrollTop) s.scrollTop = i * rowHeight;
    else if ((i + 1) * rowHeight + head > s.scrollTop + s.clientHeight) s.scrollTop = (i + 1) * rowHeight + head - s.clientHeight;
    this.plan(true);
    this.body.querySelector(`tr[data-i="${i}"]`)?.focus({ preventScroll: true });
  }
}

/** spacer stands for n rows that are not drawn. */
function spacer(n) {
  const tr = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td"));
  tr.style.height = n * rowHeight + "px";
  return tr;
}

/** order compares two rows for a sort; names go up by default, numbers down. */
function order(sort) {
  const key = sort.replace("-", "");
  const sign = sort.startsWith("-") ? -1 : 1;
  const byName = (a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  if (key === "name") return (a, b) => sign * byName(a, b);
  const other = key === "self" ? "cum" : "self";
  return (a, b) => sign * (b[key] - a[key] || b[other] - a[other]) || byName(a, b);
}

/** nextSort is the sort after a click on a column. */
const nextSort = (now, key) => (now === key ? "-" + key : key);
