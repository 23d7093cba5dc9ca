// Pointer, wheel and keyboard of a flame graph.

import { firstAfter } from "./flamedraw.js";

const dragStart = 4; // px before a press becomes a drag
const longPress = 550; // ms of touch before the menu opens

/** bindInput connects a canvas with its graph. @param {import("./flamegraph.js").FlameGraph} g */
export function bindInput(g) {
  bindPointer(g);
  g.canvas.addEventListener("wheel", (e) => onWheel(g, e), { passive: false });
  g.canvas.addEventListener("keydown", (e) => onKey(g, e));
}

/** point gives an event's place in px of the canvas. */
function point(g, e) {
  const r = g.canvas.getBoundingClientRect();
  return [e.clientX - r.left, e.clientY - r.top];
}

function bindPointer(g) {
  const c = g.canvas;
  const down = new Map(); // pointerId → last place
  let start = null; // where a single press began
  let moved = false;
  let pinch = 0;
  let hold = 0;

  c.addEventListener("pointerdown", (e) => {
    if (e.button !== 0) return;
    down.set(e.pointerId, { x: e.clientX, y: e.clientY });
    start = { x: e.clientX, y: e.clientY };
    moved = down.size > 1;
    clearTimeout(hold);
    if (e.pointerType !== "mouse") {
      const [x, y] = point(g, e);
      hold = setTimeout(() => {
        moved = true;
        const n = g.at(x, y);
        if (n >= 0) g.events.menu?.(n, e.clientX, e.clientY);
      }, longPress);
    }
  });
  c.addEventListener("pointermove", (e) => {
    const last = down.get(e.pointerId);
    if (!last) {
      const [x, y] = point(g, e);
      g.hover(g.at(x, y), e.clientX, e.clientY);
      return;
    }
    if (down.size === 2) {
      pinch = pinchMove(g, down, e, pinch);
      return;
    }
    if (!moved && Math.hypot(e.clientX - start.x, e.clientY - start.y) < dragStart) return;
    if (!moved) {
      moved = true;
      clearTimeout(hold);
      c.setPointerCapture(e.pointerId);
      c.classList.add("dragging");
      g.hover(-1, 0, 0);
    }
    g.panBy(last.x - e.clientX, last.y - e.clientY);
    down.set(e.pointerId, { x: e.clientX, y: e.clientY });
  });
  const end = (e) => {
    clearTimeout(hold);
    down.delete(e.pointerId);
    pinch = 0;
    c.classList.remove("dragging");
  };
  c.addEventListener("pointerup", end);
  c.addEventListener("pointercancel", end);
  c.addEventListener("pointerleave", () => g.hover(-1, 0, 0));
  c.addEventListener("click", (e) => {
    if (moved) return;
    const n = g.at(...point(g, e));
    if (n < 0 || e.detail > 1) return;
    g.selected = n;
    g.events.select?.(n);
    g.zoomTo(n);
  });
  c.addEventListener("dblclick", () => {
    if (!moved) g.zoomTo(-1);
  });
  c.addEventListener("contextmenu", (e) => {
    const n = g.at(...point(g, e));
    if (n < 0) return;
    e.preventDefault();
    g.selected = n;
    g.events.select?.(n);
    g.events.menu?.(n, e.clientX, e.clientY);
  });
}

/** pinchMove zooms by the distance of two fingers and returns it. */
function pinchMove(g, down, e, before) {
  down.set(e.pointerId, { x: e.clientX, y: e.clientY });
  const [a, b] = [...down.values()];
  const distance = Math.hypot(a.x - b.x, a.y - b.y);
  if (before > 0 && distance > 0) {
    const r = g.canvas.getBoundingClientRect();
    g.zoomBy(before / distance, ((a.x + b.x) / 2 - r.left) / r.width);
  }
  return distance;
}

/**
 * onWheel: with Ctrl, ⌘ or Alt (and pinching on a touchpad) zooms at the pointer; with
 * Shift or sideways pans; else scrolls the rows, or zooms where all rows are in view.
 */
function onWheel(g, e) {
  if (!g.layout) return;
  moveByWheel(g, e);
  // Another frame may be under the pointer now.
  if (g.hovered >= 0) g.hover(g.at(...point(g, e)), e.clientX, e.clientY);
}

function moveByWheel(g, e) {
  const unit = e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? g.height : 1;
  const dx = e.deltaX * unit;
  const dy = e.deltaY * unit;
  const sideways = e.shiftKey || Math.abs(dx) > Math.abs(dy);
  const scrolls = g.clampTop(Infinity) > 0;
  if (e.ctrlKey || e.metaKey || e.altKey || (!sideways && !scrolls)) {
    e.preventDefault();
    const [x] = point(g, e);
    // A pinch comes in small steps, a wheel in notches of about a hundred.
    g.zoomBy(Math.exp(Math.max(-150, Math.min(150, dy)) * (Math.abs(dy) < 40 ? 0.01 : 0.003)), x / g.width);
    return;
  }
  if (sideways) {
    e.preventDefault();
    g.panBy(dx || dy, 0);
    return;
  }
  const before = g.view.top;
  g.panBy(0, dy);
  // At the end of the rows the page may scroll on.
  if (g.view.top !== before) e.preventDefault();
}

/** child is the widest node next to n on the row of the given depth, -1 if there is none. */
function child(L, n, depth) {
  const row = depth - L.minDepth;
  if (row < 0 || row > L.maxDepth - L.minDepth) return -1;
  const end = L.rowStart[row + 1];
  for (let i = firstAfter(L, L.rowStart[row], end, L.x[n]); i < end; i++) {
    const k = L.order[i];
    if (L.parent[k] === n) return k;
    if (L.x[k] > L.x[n] + L.w[n]) return -1;
  }
  return -1;
}

/** vertical is the node one row further down (+1) or up (-1) in depth. */
function vertical(L, n, step) {
  const d = L.depth[n];
  const inward = (d > 0 && step < 0) || (d < 0 && step > 0);
  return inward ? L.parent[n] : child(L, n, d + step);
}

/** sideways is the next node on the same row that is wide enough to be seen. */
function sideways(g, n, step) {
  const L = g.layout;
  const row = L.depth[n] - L.minDepth;
  const least = (g.view.x1 - g.view.x0) / g.width;
  for (let i = L.rank[n] + step; i >= L.rowStart[row] && i < L.rowStart[row + 1]; i += step) {
    if (L.w[L.order[i]] >= least) return L.order[i];
  }
  return -1;
}

const moves = {
  ArrowDown: (g, n) => vertical(g.layout, n, g.flip ? -1 : 1),
  ArrowUp: (g, n) => vertical(g.layout, n, g.flip ? 1 : -1),
  ArrowLeft: (g, n) => sideways(g, n, -1),
  ArrowRight: (g, n) => sideways(g, n, 1),
  Home: () => 0,
};

function onKey(g, e) {
  if (!g.layout || e.ctrlKey || e.metaKey || e.altKey) return;
  const n = g.selected;
  const move = moves[e.key];
  if (move) {
    e.preventDefault();
    const to = n < 0 ? Math.max(0, g.zoomed) : move(g, n);
    if (to >= 0) g.select(to);
    return;
  }
  const keys = {
    Enter: () => n >= 0 && g.zoomTo(n),
    Backspace: () => g.zoomed >= 0 && (g.select(g.layout.parent[g.zoomed]), g.zoomTo(g.layout.parent[g.zoomed])),
    "+": () => g.zoomBy(0.7, 0.5),
    "=": () => g.zoomBy(0.7, 0.5),
    "-": () => g.zoomBy(1 / 0.7, 0.5),
    0: () => g.zoomTo(-1),
    c: () => n >= 0 && g.events.action?.("copy", n),
    s: () => n >= 0 && g.events.action?.("sandwich", n),
    o: () => n >= 0 && g.events.action?.("source", n),
    f: () => n >= 0 && g.events.action?.("focus", n),
    h: () => n >= 0 && g.events.action?.("hide", n),
    m: () => n >= 0 && openMenu(g, n),
    ContextMenu: () => n >= 0 && openMenu(g, n),
  };
  const act = keys[e.key];
  if (!act) return;
  e.preventDefault();
  e.stopPropagation();
  act();
}

/** openMenu opens the menu below a node that was chosen with the keyboard. */
function openMenu(g, n) {
  const r = g.canvas.getBoundingClientRect();
  const b = g.box(n);
  g.events.menu?.(n, r.left + b.left + 8, r.top + b.top + b.height);
}
