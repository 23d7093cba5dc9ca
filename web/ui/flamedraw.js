// Drawing one frame of a flame graph. The work is bounded by what can be seen:
// rows in view, and at most one rectangle per pixel of a row, however many
// nodes the tree has.

import { frameColour, rootColour } from "./colour.js";
import { nameOf } from "./names.js";

export const rowHeight = 21;
const gap = 1;
const textPad = 5;
const minText = 22; // px of width below which no text is drawn

/**
 * Palette is every colour a drawing needs for one theme.
 * @typedef {Object} Palette
 * @property {"light"|"dark"} theme
 * @property {string} text
 * @property {string} faint  text of frames that a search leaves out
 * @property {string} dim    fill of frames that a search leaves out
 * @property {string} tiny   fill of runs too narrow to tell apart
 * @property {string} ink    outline of the selected frame
 * @property {string} mark   outline of the highlighted function
 * @property {string} font   CSS font of the labels
 */

/** @type {Record<"light"|"dark", Omit<Palette, "theme"|"font">>} */
export const palettes = {
  light: { text: "#171b21", faint: "#626972", dim: "#e9ebee", tiny: "#d3d7dd", ink: "#10151c", mark: "#0b57d0" },
  dark: { text: "#eef1f5", faint: "#959da7", dim: "#23272e", tiny: "#3a4049", ink: "#ffffff", mark: "#7db3ff" },
};

/** Ruler measures text by the sum of its characters' widths, each measured once. */
export class Ruler {
  /** @param {CanvasRenderingContext2D} ctx @param {string} font */
  constructor(ctx, font) {
    ctx.font = font;
    this.widths = new Float32Array(128);
    for (let c = 32; c < 127; c++) this.widths[c] = ctx.measureText(String.fromCharCode(c)).width;
    this.wide = ctx.measureText("漢").width;
    this.dots = ctx.measureText("…").width;
  }

  /** fit gives as much of s as avail px hold, with … if it had to be cut. */
  fit(s, avail) {
    let sum = 0;
    let cut = 0; // characters that leave room for the dots
    for (let i = 0; i < s.length; i++) {
      const c = s.charCodeAt(i);
      sum += c < 128 ? this.widths[c] : this.wide;
      if (sum + this.dots <= avail) cut = i + 1;
      if (sum > avail) return cut < 2 ? "" : s.slice(0, cut) + "…";
    }
    return s;
  }
}

/**
 * Fills caches the colour and label of every name of a layout.
 */
export class Fills {
  /** @param {string[]} names @param {Palette["theme"]} theme */
  constructor(names, theme) {
    this.theme = theme;
    this.names = names;
    /** @type {string[]} */
    this.colours = new Array(names.length);
    /** @type {string[]} */
    this.labels = new Array(names.length);
  }

  colour(name) {
    return (this.colours[name] ??= frameColour(this.names[name], this.theme));
  }

  label(name) {
    return (this.labels[name] ??= nameOf(this.names[name]).short);
  }
}

/**
 * Scene is everything one drawing depends on.
 * @typedef {Object} Scene
 * @property {import("./flametree.js").Layout} layout
 * @property {{x0: number, x1: number, top: number}} view part of the whole in view; px scrolled
 * @property {number} width   CSS px
 * @property {number} height  CSS px
 * @property {boolean} flip   root at the bottom
 * @property {Palette} palette
 * @property {Fills} fills
 * @property {Ruler} ruler
 * @property {{hit: Uint8Array, before: Int32Array}|null} found  what a search took, see matches in flametree.js
 * @property {number} marked  name highlighted from the table, -1
 * @property {number} hovered node, -1
 * @property {number} selected node, -1
 */

/** contentHeight is the height of all rows in px. */
export const contentHeight = (L) => (L.maxDepth - L.minDepth + 1) * rowHeight;

/** rowTop is the y of a depth's row, before scrolling, in a view of the given height. */
export function rowTop(L, depth, flip, height) {
  const row = depth - L.minDepth;
  if (!flip) return row * rowHeight;
  const all = contentHeight(L);
  return Math.max(all, height) - (row + 1) * rowHeight;
}

/** depthAt is the depth of the row at y (before scrolling), which may not exist. */
function depthAt(L, y, flip, height) {
  if (!flip) return Math.floor(y / rowHeight) + L.minDepth;
  return Math.floor((Math.max(contentHeight(L), height) - 1 - y) / rowHeight) + L.minDepth;
}

/**
 * firstAfter finds, in the row slice [lo, hi) of L.order, the first node that
 * ends beyond x; hi if none does.
 */
export function firstAfter(L, lo, hi, x) {
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    const n = L.order[mid];
    if (L.x[n] + L.w[n] > x) hi = mid;
    else lo = mid + 1;
  }
  return lo;
}

/**
 * nodeAt finds the node at a point of the view, -1 if there is none.
 * @param {Scene} s @param {number} px @param {number} py
 */
export function nodeAt(s, px, py) {
  const L = s.layout;
  const row = depthAt(L, py + s.view.top, s.flip, s.height) - L.minDepth;
  if (row < 0 || row > L.maxDepth - L.minDepth || px < 0 || px > s.width) return -1;
  const x = s.view.x0 + (px / s.width) * (s.view.x1 - s.view.x0);
  const i = firstAfter(L, L.rowStart[row], L.rowStart[row + 1], x);
  if (i >= L.rowStart[row + 1]) return -1;
  const n = L.order[i];
  return L.x[n] <= x ? n : -1;
}

/**
 * draw paints a scene on a context scaled to CSS px.
 * @param {CanvasRenderingContext2D} ctx @param {Scene} s
 */
export function draw(ctx, s) {
  const L = s.layout;
  ctx.clearRect(0, 0, s.width, s.height);
  ctx.font = s.palette.font;
  ctx.textBaseline = "middle";
  const texts = [];
  const a = depthAt(L, s.view.top, s.flip, s.height);
  const b = depthAt(L, s.view.top + s.height, s.flip, s.height);
  const from = Math.max(L.minDepth, Math.min(a, b));
  const to = Math.min(L.maxDepth, Math.max(a, b));
  for (let d = from; d <= to; d++) drawRow(ctx, s, d, texts);
  drawTexts(ctx, s, texts);
  outline(ctx, s);
  drawScroll(ctx, s);
}

/** drawRow fills the rectangles of one row and notes the texts to write. */
function drawRow(ctx, s, depth, texts) {
  const L = s.layout;
  const { x0, x1, top } = s.view;
  const scale = s.width / (x1 - x0);
  const y = rowTop(L, depth, s.flip, s.height) - top;
  const h = rowHeight - gap;
  const end = L.rowStart[depth - L.minDepth + 1];
  let i = firstAfter(L, L.rowStart[depth - L.minDepth], end, x0);
  let run = -1; // left edge of a run of frames too narrow to tell apart
  let runEnd = -1;
  let runHit = false; // the search took some of them
  const flush = () => {
    if (run < 0) return;
    ctx.fillStyle = runHit ? s.palette.mark : s.found ? s.palette.dim : s.palette.tiny;
    ctx.fillRect(run, y, Math.max(0.5, runEnd - run), h);
    run = -1;
  };
  while (i < end) {
    const n = L.order[i];
    const px = (L.x[n] - x0) * scale;
    if (px >= s.width) break;
    const pw = L.w[n] * scale;
    if (pw < 1) {
      // Whatever else ends within this pixel cannot be seen: it is skipped unseen.
      const next = Math.max(i + 1, firstAfter(L, i + 1, end, x0 + (Math.floor(px) + 1) / scale));
      const hit = s.found !== null && s.found.before[next] > s.found.before[i];
      if (run >= 0 && (px > runEnd + 0.75 || hit !== runHit)) flush();
      if (run < 0) run = px;
      runHit = hit;
      runEnd = Math.max(px + pw, run + 0.5);
      i = next;
      continue;
    }
    flush();
    const left = Math.max(0, px);
    const right = Math.min(s.width, px + pw);
    fillFrame(ctx, s, n, left, y, right - left, h, px + pw <= s.width, texts);
    i++;
  }
  flush();
}

/** fillFrame paints one frame that is at least a pixel wide. */
function fillFrame(ctx, s, n, x, y, w, h, closed, texts) {
  const L = s.layout;
  const name = L.name[n];
  const out = s.found !== null && s.found.hit[name] === 0;
  const root = n === 0 && !L.sandwich;
  ctx.fillStyle = out ? s.palette.dim : root ? rootColour(s.palette.theme) : s.fills.colour(name);
  ctx.fillRect(x, y, closed && w > 2.5 ? w - gap : w, h);
  if (name === s.marked) {
    ctx.strokeStyle = s.palette.mark;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x + 0.75, y + 0.75, Math.max(0, w - gap - 1.5), h - 1.5);
  }
  if (w >= minText) texts.push(n, x, y, w, out ? 1 : 0);
}

/** drawTexts writes the labels after all fills, so that the context's state changes twice, not per frame. */
function drawTexts(ctx, s, texts) {
  for (let out = 0; out <= 1; out++) {
    ctx.fillStyle = out ? s.palette.faint : s.palette.text;
    for (let k = 0; k < texts.length; k += 5) {
      if (texts[k + 4] !== out) continue;
      const label = s.fills.label(s.layout.name[texts[k]]);
      const text = s.ruler.fit(label, texts[k + 3] - 2 * textPad);
      if (text) ctx.fillText(text, texts[k + 1] + textPad, texts[k + 2] + rowHeight / 2);
    }
  }
}

/** outline draws the frames around the hovered and the selected node. */
function outline(ctx, s) {
  const L = s.layout;
  const scale = s.width / (s.view.x1 - s.view.x0);
  for (const [n, width] of [[s.hovered, 1], [s.selected, 2]]) {
    if (n < 0 || n >= L.size) continue;
    const x = Math.max(0, (L.x[n] - s.view.x0) * scale);
    const r = Math.min(s.width, (L.x[n] + L.w[n] - s.view.x0) * scale);
    const y = rowTop(L, L.depth[n], s.flip, s.height) - s.view.top;
    if (r < 0 || x > s.width || y > s.height || y < -rowHeight) continue;
    ctx.strokeStyle = s.palette.ink;
    ctx.lineWidth = width;
    ctx.strokeRect(x + width / 2, y + width / 2, Math.max(1, r - x - width - gap), rowHeight - gap - width);
  }
}

/** drawScroll shows where the view stands when the rows are more than fit. */
function drawScroll(ctx, s) {
  const all = contentHeight(s.layout);
  if (all <= s.height) return;
  const h = Math.max(24, (s.height * s.height) / all);
  const y = (s.view.top / (all - s.height)) * (s.height - h);
  ctx.fillStyle = s.palette.faint;
  ctx.globalAlpha = 0.55;
  ctx.fillRect(s.width - 4, y, 3, h);
  ctx.globalAlpha = 1;
}
