// Label filters: chips for the matchers of a selector, a form to add one, and
// the selector as text.

import { buildLink, shortID } from "./buildwords.js";
import { Combobox, narrowed } from "./combobox.js";
import { byId, debounce, el, icon } from "./dom.js";
import { closeFloating, popover } from "./floating.js";
import { parseSelector, selector } from "./selector.js";

const ops = [["=", "is"], ["!=", "is not"], ["=~", "matches"], ["!~", "does not match"]];

export class Filters {
  /**
   * @param {Object} o
   * @param {(query: string) => void} o.change the selector was changed
   * @param {() => Promise<string[]>} o.names  label names there are
   * @param {(name: string) => Promise<string[]>} o.values
   */
  constructor(o) {
    this.o = o;
    this.box = byId("filters");
    this.field = byId("query-field");
    this.input = byId("query");
    this.raw = false;
    this.query = null;
    this.input.addEventListener("keydown", (e) => {
      if (e.key === "Enter") this.o.change(this.input.value.trim());
    });
    this.input.addEventListener("change", () => this.o.change(this.input.value.trim()));
    this.input.addEventListener("input", debounce(() => this.showError(""), 50));
  }

  /** show writes a selector as chips, or as text if it cannot be chips. */
  show(query) {
    if (query === this.query) return;
    this.query = query;
    const ms = parseSelector(query);
    if (document.activeElement !== this.input) this.input.value = query;
    this.field.hidden = !(this.raw || ms === null);
    const chips = (ms ?? []).map((m, i) => (m.name === "service" && m.op === "=" ? null : this.chip(ms, m, i)));
    this.box.replaceChildren(
      ...chips.filter(Boolean),
      ms === null ? el("span", { class: "fine" }, "as written below") : this.addButton(ms),
      el("button", { type: "button", "aria-pressed": String(!this.field.hidden), title: "Edit the selector as text", click: () => this.toggle() }, "{ }"),
    );
  }

  toggle() {
    this.raw = this.field.hidden;
    this.field.hidden = !this.raw;
    if (this.raw) this.input.focus();
  }

  /** showError writes what is wrong with the selector under it; "" nothing. */
  showError(message) {
    const p = byId("query-error");
    p.hidden = !message;
    p.textContent = message;
    if (message) {
      this.input.setAttribute("aria-invalid", "true");
      this.field.hidden = false;
    } else {
      this.input.removeAttribute("aria-invalid");
    }
  }

  chip(ms, m, i) {
    const build = m.name === "build" && m.op === "=";
    return el("span", { class: "chip" },
      el("button", { type: "button", title: "Change this filter", "aria-haspopup": "dialog", "aria-expanded": "false", click: (e) => this.form(e.currentTarget, ms, i) },
        el("span", {}, m.name, el("span", { class: "op" }, " " + m.op + " "), el("span", { class: "chip-value", title: build ? m.value : null }, (build ? shortID(m.value) : m.value) || '""'))),
      build ? el("a", { href: buildLink(m.value), title: "See this build", "aria-label": `See the build ${m.value}` }, icon("link")) : null,
      el("button", { type: "button", "aria-label": `Remove the filter ${m.name} ${m.op} ${m.value}`, click: () => this.o.change(selector(ms.filter((_, j) => j !== i))) }, icon("x")));
  }

  addButton(ms) {
    return el("button", { type: "button", id: "add-filter", "aria-haspopup": "dialog", "aria-expanded": "false", click: (e) => this.form(e.currentTarget, ms, ms.length) }, icon("plus"), "Filter");
  }

  /** form opens the fields of the i-th matcher, or of a new one. */
  form(anchor, ms, i) {
    const m = ms[i] ?? { name: "", op: "=", value: "" };
    const name = /** @type {HTMLInputElement} */ (el("input", { type: "text", "aria-label": "Label", placeholder: "label", ".value": m.name, spellcheck: "false", autocomplete: "off" }));
    const op = /** @type {HTMLSelectElement} */ (el("select", { "aria-label": "Comparison" }, ...ops.map(([o, t]) => el("option", { value: o, title: t, ".selected": o === m.op }, o))));
    const value = /** @type {HTMLInputElement} */ (el("input", { type: "text", "aria-label": "Value", placeholder: "value", ".value": m.value, spellcheck: "false", autocomplete: "off" }));
    const apply = () => {
      if (!name.value.trim()) {
        name.focus();
        return;
      }
      const next = ms.slice();
      next[i] = { name: name.value.trim(), op: op.value, value: value.value };
      closeFloating();
      this.o.change(selector(next));
    };
    const form = el("form", { submit: (e) => {
      e.preventDefault();
      apply();
    } },
    el("h2", {}, i < ms.length ? "Change filter" : "Add filter"),
    el("div", { class: "filter-form" }, el("div", { class: "combo" }, name), op, el("div", { class: "combo" }, value)),
    el("div", { class: "row" }, el("button", { class: "primary" }, "Apply"), el("span", { class: "fine" }, "=~ and !~ take regular expressions that match the whole value.")));
    new Combobox(name, { free: true, choose: () => value.focus(), options: async (typed) => narrowed((await this.o.names()).map((v) => ({ value: v })), typed) });
    new Combobox(value, {
      free: true, choose: () => {},
      options: async (typed) => (name.value.trim() ? narrowed((await this.o.values(name.value.trim())).map((v) => ({ value: v })), typed) : []),
    });
    popover(anchor, "Filter by a label", form);
    (m.name ? value : name).focus();
  }
}
