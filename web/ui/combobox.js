// A text field with a list of suggestions (ARIA combobox pattern). What was
// typed may be taken as it stands, or only what is on the list.

import { el } from "./dom.js";

/** @typedef {{value: string, text?: string, note?: string}} Option */

let ids = 0;

export class Combobox {
  /**
   * @param {HTMLInputElement} input stands in an element of class combo
   * @param {Object} o
   * @param {(typed: string) => Option[]|Promise<Option[]>} o.options what to suggest
   * @param {(value: string) => void} o.choose
   * @param {boolean} [o.free] what was typed counts as it stands
   */
  constructor(input, o) {
    this.input = input;
    this.o = o;
    this.value = input.value;
    this.active = -1;
    this.moved = false; // the active option was chosen by arrow keys since the last input
    /** @type {Option[]} */
    this.found = [];
    this.list = el("ul", { class: "options", role: "listbox", id: "options-" + ++ids, hidden: true });
    input.after(this.list);
    for (const [k, v] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": this.list.id, "aria-autocomplete": "list" })) input.setAttribute(k, v);
    input.addEventListener("focus", () => {
      input.select();
      this.open("");
    });
    input.addEventListener("click", () => this.list.hidden && this.open(""));
    input.addEventListener("input", () => {
      this.moved = false;
      this.open(input.value);
    });
    input.addEventListener("blur", () => this.leave());
    input.addEventListener("keydown", (e) => this.onKey(e));
    // Not on click: the field would lose the focus, and with it the list.
    this.list.addEventListener("pointerdown", (e) => {
      e.preventDefault();
      const li = e.target.closest("[role=option]");
      if (li) this.take(this.found[Number(li.dataset.i)].value);
    });
  }

  /** set shows a value without telling anybody. */
  set(value) {
    this.value = value;
    if (document.activeElement !== this.input || this.list.hidden) this.input.value = value;
  }

  async open(typed) {
    const asked = (this.asked = {});
    const found = await this.o.options(typed);
    if (asked !== this.asked || document.activeElement !== this.input) return;
    // Options that come late leave the arrow keys' choice alone.
    const moved = this.moved ? found.findIndex((f) => f.value === this.found[this.active]?.value) : -1;
    const at = found.findIndex((f) => f.value === this.value);
    this.found = found;
    this.active = moved >= 0 ? moved : typed ? (found.length && !this.o.free ? 0 : -1) : at;
    this.list.replaceChildren(...found.map((f, i) => el("li", {
      role: "option", id: `${this.list.id}-${i}`, "data-i": i, "aria-selected": String(f.value === this.value),
    }, el("span", {}, f.text ?? f.value), f.note ? el("small", {}, f.note) : null)));
    if (!found.length) this.list.append(el("li", { class: "none" }, typed ? "Nothing matches" : "Nothing to suggest"));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.show();
  }

  close() {
    this.asked = null;
    this.list.hidden = true;
    this.active = -1;
    this.moved = false;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  /** show marks the active option. */
  show() {
    [...this.list.children].forEach((li, i) => li.classList.toggle("active", i === this.active));
    const li = this.list.children[this.active];
    if (li?.id) this.input.setAttribute("aria-activedescendant", li.id);
    else this.input.removeAttribute("aria-activedescendant");
    li?.scrollIntoView({ block: "nearest" });
  }

  take(value) {
    this.value = value;
    this.input.value = value;
    this.close();
    this.o.choose(value);
  }

  leave() {
    this.close();
    if (this.o.free && this.input.value !== this.value) this.take(this.input.value);
    else this.input.value = this.value;
  }

  onKey(e) {
    const n = this.found.length;
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (this.list.hidden) this.open("");
      else if (n) {
        this.moved = true;
        this.active = (this.active + (e.key === "ArrowDown" ? 1 : this.active < 0 ? 0 : -1) + n) % n;
        this.show();
      }
    } else if (e.key === "Enter") {
      const chosen = !this.list.hidden && this.active >= 0;
      if (chosen || this.o.free) {
        // An open list takes the key; without one the form gets it.
        if (!this.list.hidden) e.preventDefault();
        this.take(chosen ? this.found[this.active].value : this.input.value);
      }
    } else if (e.key === "Escape" && !this.list.hidden) {
      e.preventDefault();
      e.stopPropagation();
      this.input.value = this.value;
      this.close();
    }
  }
}

/** narrowed keeps the options that hold every word typed, those that begin with it first. */
export function narrowed(options, typed) {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (o) => (o.text ?? o.value).toLowerCase();
  const rank = (o) => (text(o).startsWith(words[0] ?? "") ? 0 : 1);
  return options.filter((o) => words.every((w) => text(o).includes(w))).sort((a, b) => rank(a) - rank(b));
}
