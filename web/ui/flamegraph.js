// The flame graph: a canvas, what is in view of a layout, and how it moves.
// It knows nothing of the page around it; what happens is told by callbacks.
//
// Every drawn frame leaves two performance entries: "flame:draw", the time
// spent in drawing, and "flame:frame", the time from its animation frame to
// the next, which holds painting too.

import { Fills, Ruler, contentHeight, draw, nodeAt, palettes, rowHeight, rowTop } from "./flamedraw.js";
import { matches } from "./flametree.js";
import { bindInput } from "./flameinput.js";

const tweenTime = 220; // ms of a zoom
const keptEntries = 4000; // performance entries before they are dropped
const narrowest = 1e-9; // part of the whole that can fill the view

/**
 * Callbacks of a FlameGraph; nodes are indexes into the layout shown, -1 for none.
 * @typedef {Object} FlameEvents
 * @property {(node: number, x: number, y: number) => void} [hover]  client px of the pointer
 * @property {(node: number) => void} [select] keyboard or click moved the selection
 * @property {(node: number) => void} [zoom]   -1: the whole is shown
 * @property {(node: number, x: number, y: number) => void} [menu]
 * @property {(action: string, node: number) => void} [action] a key asked for it: sandwich, copy
 */

export class FlameGraph {
  /** @param {HTMLCanvasElement} canvas @param {FlameEvents} events */
  constructor(canvas, events) {
    this.canvas = canvas;
    this.events = events;
    this.ctx = canvas.getContext("2d");
    /** @type {import("./flametree.js").Layout|null} */
    this.layout = null;
    this.view = { x0: 0, x1: 1, top: 0 };
    this.flip = false;
    this.found = null;
    this.marked = -1;
    this.hovered = -1;
    this.selected = -1;
    this.zoomed = -1;
    this.tween = null;
    this.width = 0;
    this.height = 0;
    this.pending = 0;
    this.drawn = null; // timestamp of the last frame that was drawn
    this.entries = 0;
    this.setTheme("light");
    new ResizeObserver(() => this.resize()).observe(canvas);
    addEventListener("resize", () => this.resize()); // the ratio of px may have changed
    bindInput(this);
  }

  /** setTheme changes the colours. @param {"light"|"dark"} theme */
  setTheme(theme) {
    const font = "12px " + (getComputedStyle(this.canvas).fontFamily || "sans-serif");
    this.palette = { theme, font, ...palettes[theme] };
    this.ruler = new Ruler(this.ctx, font);
    if (this.layout) this.fills = new Fills(this.layout.names, theme);
    this.redraw();
  }

  /**
   * show draws another layout. The zoom is the caller's to set again.
   * @param {import("./flametree.js").Layout|null} L
   */
  show(L) {
    this.layout = L;
    this.hovered = this.selected = this.zoomed = -1;
    this.found = null;
    this.marked = -1;
    this.tween = null;
    if (L) this.fills = new Fills(L.names, this.palette.theme);
    this.resize();
    this.view = { x0: 0, x1: 1, top: this.homeTop() };
    this.redraw();
  }

  /** setFlip puts the root at the bottom (flame) or at the top (icicle). */
  setFlip(flip) {
    if (this.flip === flip) return;
    this.flip = flip;
    this.tween = null;
    if (this.layout) this.view.top = this.zoomed >= 0 ? this.topFor(this.zoomed) : this.homeTop();
    this.redraw();
  }

  /** homeTop is the scroll position that shows the root. */
  homeTop() {
    if (!this.layout) return 0;
    if (this.layout.minDepth < 0) {
      return this.clampTop(rowTop(this.layout, 0, this.flip, this.height) - (this.height - rowHeight) / 2);
    }
    return this.clampTop(this.flip ? Infinity : 0);
  }

  /** topFor is the nearest scroll position that has a node's row and its surroundings in view. */
  topFor(node) {
    const y = rowTop(this.layout, this.layout.depth[node], this.flip, this.height);
    const margin = Math.min(3 * rowHeight, this.height / 4);
    let top = this.view.top;
    if (y < top + margin) top = y - margin;
    if (y + rowHeight > top + this.height - margin) top = y + rowHeight + margin - this.height;
    return this.clampTop(top);
  }

  clampTop(top) {
    return Math.max(0, Math.min(top, contentHeight(this.layout) - this.height));
  }

  /**
   * zoomTo brings a node to the full width; a node below 0 shows the whole.
   * @param {number} node @param {boolean} [tell] call the zoom callback
   */
  zoomTo(node, tell = true) {
    const L = this.layout;
    if (!L) return;
    if (node === 0) node = -1;
    this.zoomed = node;
    const target = node < 0
      ? { x0: 0, x1: 1, top: this.homeTop() }
      : { x0: L.x[node], x1: L.x[node] + Math.max(L.w[node], narrowest), top: this.topFor(node) };
    this.moveTo(target);
    if (tell) this.events.zoom?.(node);
  }

  /** zoomBy scales the width in view around a point (0…1 of the view). */
  zoomBy(factor, at) {
    if (!this.layout) return;
    this.tween = null;
    const { x0, x1 } = this.view;
    const width = Math.min(1, Math.max(narrowest, (x1 - x0) * factor));
    const pivot = x0 + (x1 - x0) * at;
    this.setView(pivot - width * at, width, this.view.top);
  }

  /** panBy moves the view by px. */
  panBy(dx, dy) {
    if (!this.layout) return;
    this.tween = null;
    const { x0, x1, top } = this.view;
    this.setView(x0 + (dx / this.width) * (x1 - x0), x1 - x0, top + dy);
  }

  setView(x0, width, top) {
    x0 = Math.max(0, Math.min(1 - width, x0));
    this.view = { x0, x1: x0 + width, top: this.clampTop(top) };
    this.redraw();
  }

  /** moveTo travels to a view, at once for people who asked for less motion. */
  moveTo(target) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still || this.height === 0) {
      this.tween = null;
      this.view = target;
    } else {
      this.tween = { from: { ...this.view }, to: target, start: null };
    }
    this.redraw();
  }

  /**
   * search marks what a test takes; null ends it.
   * @param {((s: string) => boolean)|null} test
   * @returns {{value: number, frames: number}|null}
   */
  search(test) {
    if (!this.layout || !test) {
      this.found = null;
      this.redraw();
      return null;
    }
    const m = matches(this.layout, test);
    this.found = m;
    this.redraw();
    return m;
  }

  /** mark outlines all frames of a function; "" ends it. */
  mark(name) {
    this.marked = this.layout && name ? this.layout.names.indexOf(name) : -1;
    this.redraw();
  }

  /** selectWidest selects the widest frame of the marked function. */
  selectWidest() {
    const L = this.layout;
    if (!L || this.marked < 0) return;
    let best = -1;
    for (let i = L.sandwich ? 0 : 1; i < L.size; i++) {
      if (L.name[i] === this.marked && (best < 0 || L.w[i] > L.w[best])) best = i;
    }
    if (best >= 0) this.select(best);
  }

  /** selectNextHit selects the frame after the selected one that the search took, row by row. */
  selectNextHit() {
    const L = this.layout;
    if (!L || !this.found?.frames) return;
    const from = this.selected >= 0 ? L.rank[this.selected] : -1;
    for (let k = 1; k <= L.size; k++) {
      const n = L.order[(from + k) % L.size];
      if (this.found.hit[L.name[n]] && (n > 0 || L.sandwich)) {
        this.select(n);
        return;
      }
    }
  }

  /** select moves the selection and brings it into view. */
  select(node) {
    this.selected = node;
    const L = this.layout;
    if (node >= 0 && L) {
      const outside = L.x[node] + L.w[node] <= this.view.x0 || L.x[node] >= this.view.x1;
      const top = this.topFor(node);
      if (outside) {
        const width = Math.max(this.view.x1 - this.view.x0, L.w[node]);
        const x0 = Math.max(0, Math.min(1 - width, L.x[node] + L.w[node] / 2 - width / 2));
        this.moveTo({ x0, x1: x0 + width, top });
      } else if (top !== this.view.top) {
        this.moveTo({ ...this.view, top });
      }
    }
    this.redraw();
    this.events.select?.(node);
  }

  /** hover sets the frame under the pointer. */
  hover(node, x, y) {
    if (node !== this.hovered) {
      this.hovered = node;
      this.canvas.classList.toggle("on-frame", node >= 0);
      this.redraw();
    }
    this.events.hover?.(node, x, y);
  }

  /** at finds the node at a point given in px of the canvas. */
  at(px, py) {
    return this.layout ? nodeAt(this.scene(), px, py) : -1;
  }

  /** box is where a node is drawn, in px of the canvas. */
  box(node) {
    const L = this.layout;
    const scale = this.width / (this.view.x1 - this.view.x0);
    const left = Math.max(0, (L.x[node] - this.view.x0) * scale);
    const right = Math.min(this.width, (L.x[node] + L.w[node] - this.view.x0) * scale);
    return { left, right, top: rowTop(L, L.depth[node], this.flip, this.height) - this.view.top, height: rowHeight };
  }

  resize() {
    const { clientWidth: w, clientHeight: h } = this.canvas;
    const ratio = devicePixelRatio || 1;
    if (w === this.width && h === this.height && ratio === this.ratio) return;
    const before = this.height;
    const home = this.layout && (before === 0 || this.view.top === this.homeTop());
    this.width = w;
    this.height = h;
    this.ratio = ratio;
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    // Who has not scrolled still sees the root, where a sandwich has its function.
    if (this.layout) this.view.top = home ? this.homeTop() : this.clampTop(this.view.top + (this.flip ? before - h : 0));
    // At once: a canvas that was resized is empty until it is drawn.
    this.paint();
  }

  /** redraw asks for a drawing in the next animation frame. */
  redraw() {
    this.dirty = true;
    if (!this.pending) this.pending = requestAnimationFrame((t) => this.frame(t));
  }

  /** frame runs once per animation frame while there is something to draw or to measure. */
  frame(now) {
    this.pending = 0;
    if (this.drawn !== null) this.measure("flame:frame", this.drawn, now);
    this.drawn = null;
    if (this.tween) this.step(now);
    if (!this.dirty) return;
    const begin = performance.now();
    this.paint();
    this.measure("flame:draw", begin, performance.now());
    this.drawn = now;
    // One more frame, to know how long this one took with its painting.
    if (!this.pending) this.pending = requestAnimationFrame((t) => this.frame(t));
  }

  /** step moves the view along the tween. */
  step(now) {
    const { from, to } = this.tween;
    this.tween.start ??= now;
    const p = Math.min(1, (now - this.tween.start) / tweenTime);
    const e = 1 - (1 - p) ** 3;
    const mix = (k) => from[k] + (to[k] - from[k]) * e;
    this.view = { x0: mix("x0"), x1: mix("x1"), top: mix("top") };
    this.dirty = true;
    if (p === 1) {
      this.view = to;
      this.tween = null;
    }
  }

  paint() {
    this.dirty = this.tween !== null;
    if (!this.width || !this.height) return;
    this.ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    if (this.layout) draw(this.ctx, this.scene());
    else this.ctx.clearRect(0, 0, this.width, this.height);
  }

  /** @returns {import("./flamedraw.js").Scene} */
  scene() {
    return /** @type {any} */ (this);
  }

  measure(name, start, end) {
    if (++this.entries > keptEntries) {
      performance.clearMeasures("flame:frame");
      performance.clearMeasures("flame:draw");
      this.entries = 0;
    }
    performance.measure(name, { start, end });
  }
}
