// The graph half of the explore page: the flame graph with its lenses
// (sandwich, focus, hide), search, breadcrumb, details and menu.

import { byId, copy, el, icon, theme } from "./dom.js";
import { menu } from "./floating.js";
import { FlameGraph } from "./flamegraph.js";
import { findPath, focus, hide, layout, pathKey, pattern, sandwich, treeOf } from "./flametree.js";
import { nameOf, packagePattern } from "./names.js";
import { count, format, percent, plural } from "./units.js";

const shownParents = 3; // of the breadcrumb

export class FlamePane {
  /**
   * @param {import("./state.js").Store} store
   * @param {(name: string) => import("./table.js").Row|undefined} lookup row of a function in the table
   */
  constructor(store, lookup) {
    this.store = store;
    this.lookup = lookup;
    this.answer = null;
    this.tree = null;
    this.total = 0; // of the whole answer
    this.tip = byId("tip");
    this.status = byId("flame-status");
    this.graph = new FlameGraph(byId("flame"), {
      hover: (n, x, y) => this.hover(n, x, y),
      select: (n) => this.tell(n),
      zoom: (n) => this.zoomed(n),
      menu: (n, x, y) => this.menu(this.name(n), x, y, n),
      action: (what, n) => (what !== "source" || !this.whole(n)) && this.act(what, this.name(n)),
    });
    this.graph.setTheme(theme());
  }

  get L() {
    return this.graph.layout;
  }

  name(n) {
    return this.L.names[this.L.name[n]];
  }

  /** selected is the function of the frame chosen, "" if none is. */
  selected() {
    const n = this.graph.selected;
    return this.L && n >= 0 && !this.whole(n) ? this.name(n) : "";
  }

  /** whole says that a node is the root of everything, not a function. */
  whole(n) {
    return n === 0 && !this.L.sandwich;
  }

  /**
   * show takes an answer of /api/v1/flamegraph; null empties the pane.
   * @param {boolean} keep the same question was asked again: the view stays where it is
   */
  show(answer, state, keep) {
    const { view, selected } = this.graph;
    const chosen = keep && this.L && selected >= 0 ? pathKey(this.L, selected) : "";
    this.answer = answer;
    this.tree = answer ? treeOf(answer) : null;
    this.total = answer ? answer.total : 0;
    this.transform(state);
    if (!keep || !this.tree) return;
    if (chosen) this.graph.selected = findPath(this.L, chosen);
    if (!state.zoom) this.graph.setView(view.x0, view.x1 - view.x0, view.top);
    this.tell(-1);
  }

  /** update brings the pane to a state whose answer is shown already. */
  update(state, before) {
    if (!this.tree) return;
    const same = before && state.sandwich === before.sandwich && state.focus === before.focus && state.hide.join("\n") === before.hide.join("\n");
    if (!same) {
      this.transform(state);
      return;
    }
    this.graph.setFlip(state.root === "bottom");
    if (state.search !== before.search) this.search(state.search);
    if (state.mark !== before.mark) {
      this.graph.mark(state.mark);
      if (state.mark) this.graph.selectWidest();
    }
    if (state.zoom !== before.zoom) this.zoomKey(state.zoom);
    this.crumbs(state);
  }

  /** transform lays the tree out anew through the state's lenses. */
  transform(state) {
    this.lost = "";
    this.graph.show(this.tree ? this.lens(state) : null);
    this.graph.setFlip(state.root === "bottom");
    this.search(state.search);
    this.graph.mark(state.mark);
    if (state.zoom && this.tree) {
      const n = findPath(this.L, state.zoom);
      if (n >= 0) this.graph.zoomTo(n, false);
      this.graph.tween = null;
      if (n >= 0) this.graph.setView(this.L.x[n], Math.max(this.L.w[n], 1e-9), this.graph.topFor(n));
    }
    this.crumbs(state);
    this.tell(-1);
  }

  /** lens applies hide, focus and sandwich, in this order. */
  lens(state) {
    let t = this.tree;
    for (const name of state.hide) t = hide(t, name);
    if (state.focus) t = focus(t, state.focus);
    if (!state.sandwich) return layout(t);
    const s = sandwich(t, state.sandwich);
    if (s) return layout(s.callees, s.callers);
    this.lost = "It does not occur in what is drawn here.";
    return layout({ names: [state.sandwich], name: [0], parent: [-1], self: [0], cum: [0] }, { names: [state.sandwich], name: [0], parent: [-1], self: [0], cum: [0] });
  }

  zoomKey(key) {
    const now = this.graph.zoomed >= 0 ? pathKey(this.L, this.graph.zoomed) : "";
    if (now !== key) this.graph.zoomTo(key ? findPath(this.L, key) : -1, false);
  }

  zoomed(n) {
    this.tipped = -1; // its shares of the view are others now
    this.store.set({ zoom: n < 0 ? "" : pathKey(this.L, n) });
  }

  search(text) {
    const found = byId("found");
    const p = pattern(text);
    const m = this.graph.search(p.test);
    found.classList.toggle("warn", p.literal);
    found.title = p.literal ? "Not a regular expression: searching for the text as it stands" : "";
    if (!m) found.textContent = "";
    else if (!m.frames) found.textContent = "no frame";
    else found.textContent = this.L.sandwich ? plural(m.frames, "frame") : percent(m.value, this.total) + (p.literal ? " (text)" : "");
    this.found = m;
  }

  setTheme() {
    this.graph.setTheme(theme());
  }

  /** numbers are a frame's values and that of what fills the view. */
  numbers(n) {
    const view = this.graph.zoomed >= 0 ? this.L.cum[this.graph.zoomed] : this.L.cum[0];
    return { self: this.L.self[n], cum: this.L.cum[n], view };
  }

  hover(n, x, y) {
    const tip = this.tip;
    if (n < 0) {
      tip.hidden = true;
      return;
    }
    if (tip.hidden || this.tipped !== n) this.fillTip(n);
    tip.hidden = false;
    const { offsetWidth: w, offsetHeight: h } = tip;
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - w - 8)) + "px";
    tip.style.top = (y + 20 + h > innerHeight ? Math.max(8, y - h - 12) : y + 20) + "px";
  }

  fillTip(n) {
    this.tipped = n;
    const name = this.whole(n) ? "total" : this.name(n);
    const { self, cum, view } = this.numbers(n);
    const row = this.whole(n) ? undefined : this.lookup(name);
    const zoomed = view !== this.total && cum <= view;
    const line = (label, v) => el("tr", {}, el("th", {}, label), el("td", {}, format(v, this.answer.unit)), el("td", {}, percent(v, this.total)), zoomed ? el("td", {}, percent(v, view)) : null);
    const caller = this.L.depth[n] < 0;
    this.tip.replaceChildren(...[
      el("div", { class: "fn" }, name),
      row?.file ? el("div", { class: "pkg" }, row.file + (row.line ? ":" + row.line : "")) : null,
      caller ? el("div", { class: "pkg" }, "calls " + nameOf(this.name(0)).short) : null,
      el("table", {},
        el("thead", {}, el("tr", {}, el("th"), el("td"), el("td", {}, "of total"), zoomed ? el("td", {}, "of view") : null)),
        el("tbody", {}, caller ? null : line("self", self), line("total", cum),
          row && row.cum > cum * 1.0001 ? line("everywhere", row.cum) : null)),
    ].filter(Boolean));
  }

  /** tell writes the status line, which screen readers announce. */
  tell(n) {
    if (!this.L || !this.answer) {
      this.status.textContent = "";
      return;
    }
    if (n < 0) n = this.graph.selected;
    if (n < 0) {
      this.status.textContent = this.lost || `${count(this.L.size - 1)} frames, ${this.L.maxDepth - this.L.minDepth} deep. Point at a frame, or use the arrow keys.`;
      return;
    }
    const { self, cum, view } = this.numbers(n);
    const name = this.whole(n) ? "total" : this.name(n);
    const of = view !== this.total && cum <= view ? `, ${percent(cum, view)} of view` : "";
    this.status.textContent = `${name}: total ${format(cum, this.answer.unit)} (${percent(cum, this.total)}${of}), self ${format(self, this.answer.unit)} (${percent(self, this.total)}), depth ${Math.abs(this.L.depth[n])}`;
  }

  /** menu offers what can be done with a function. */
  menu(name, x, y, node = -1) {
    this.tip.hidden = true;
    if (node === 0 && !this.L.sandwich) {
      menu(x, y, "total", [{ text: "Zoom out to the whole", key: "0", act: () => this.graph.zoomTo(-1) }]);
      return;
    }
    const pkg = nameOf(name).pkg;
    menu(x, y, name, [
      node >= 0 && { text: "Zoom to this frame", key: "Enter", act: () => this.graph.zoomTo(node) },
      { text: "Sandwich: callers and callees", key: "s", act: () => this.act("sandwich", name) },
      { text: "Source and instructions", key: "o", act: () => this.act("source", name) },
      { text: "Only stacks through it", key: "f", act: () => this.act("focus", name) },
      { text: "Hide it", key: "h", act: () => this.act("hide", name) },
      { text: "Mark all its frames", act: () => this.store.set({ mark: name }) },
      pkg && { text: "Search its package", act: () => this.store.set({ search: packagePattern(pkg) }) },
      { text: "Copy its name", key: "c", act: () => this.act("copy", name) },
    ].filter(Boolean));
  }

  act(what, name) {
    const s = this.store.state;
    switch (what) {
      case "copy":
        copy(name, "Name");
        return;
      case "sandwich":
        this.store.set({ sandwich: name, zoom: "", view: s.view === "table" ? "both" : s.view });
        return;
      case "source":
        this.store.set({ source: name, build: "", at: "" });
        return;
      case "focus":
        this.store.set({ focus: name, zoom: "" });
        return;
      case "hide":
        if (!s.hide.includes(name)) this.store.set({ hide: [...s.hide, name], zoom: "" });
    }
  }

  /** crumbs writes the lenses in use and the way from the whole to the zoomed frame. */
  crumbs(state) {
    const nav = byId("crumbs");
    const out = [];
    const lens = (label, name, patch) => out.push(el("span", { class: "lens" }, label, el("b", { title: name }, nameOf(name).short),
      el("button", { type: "button", "aria-label": `End: ${label} ${name}`, click: () => this.store.set({ ...patch, zoom: "" }) }, icon("x"))));
    const part = this.answer?.coverage.pruned?.nodes > 0 ? " of what is drawn" : "";
    if (state.sandwich) lens("Sandwich" + part, state.sandwich, { sandwich: "" });
    if (state.focus) lens("Only through", state.focus, { focus: "" });
    for (const h of state.hide) lens("Hidden", h, { hide: state.hide.filter((x) => x !== h) });
    if (state.mark) {
      out.push(el("span", { class: "lens" }, "Marked", el("b", { title: state.mark }, nameOf(state.mark).short),
        el("button", { type: "button", "aria-label": `End: mark ${state.mark}`, click: () => this.store.set({ mark: "" }) }, icon("x"))));
    }
    if (this.L && this.graph.zoomed > 0) out.push(...this.path(this.graph.zoomed));
    nav.hidden = out.length === 0;
    nav.replaceChildren(...out);
  }

  /** path is the breadcrumb of a node. */
  path(node) {
    const L = this.L;
    const up = [];
    for (let n = L.parent[node]; n > 0; n = L.parent[n]) up.push(n);
    const sep = () => el("span", { class: "sep", "aria-hidden": "true" }, "›");
    const to = (n, text, title) => el("button", { type: "button", title, click: () => this.graph.zoomTo(n) }, el("span", {}, text));
    const out = [to(-1, L.sandwich ? nameOf(this.name(0)).short : "total", "Zoom out to the whole"), sep()];
    if (up.length > shownParents) out.push(el("span", { class: "sep", title: plural(up.length - shownParents, "more frame") }, "…"), sep());
    for (const n of up.slice(0, shownParents).reverse()) out.push(to(n, nameOf(this.name(n)).local, this.name(n)), sep());
    out.push(el("span", { class: "here" }, nameOf(this.name(node)).short),
      el("button", { type: "button", class: "square", title: "Zoom out to the whole (Esc)", "aria-label": "Zoom out to the whole", click: () => this.graph.zoomTo(-1) }, icon("x")));
    return out;
  }
}
