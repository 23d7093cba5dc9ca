// The timeline: lines over time on a canvas, with a brush that chooses a
// range.

import { seriesColour } from "./colour.js";
import { axis, ticks, timeMarks } from "./units.js";

const leastLeft = 40; // px for the value axis
const right = 8;
const topPad = 8;
const bottom = 20; // px for the time axis
const leastBrush = 4; // px

/** @typedef {{label: string, points: [number, number][], hidden?: boolean}} Line points: [unix ms, value], by time */

/**
 * @typedef {Object} TimelineEvents
 * @property {(from: number, until: number) => void} brush  a range was chosen, in ms
 * @property {() => void} out   a wider range is wanted
 * @property {(direction: number) => void} shift -1 earlier, 1 later
 * @property {(at: number|null, values: {label: string, colour: string, value: number|null}[]) => void} hover
 */

export class Timeline {
  /** @param {HTMLCanvasElement} canvas @param {TimelineEvents} events */
  constructor(canvas, events) {
    this.canvas = canvas;
    this.ctx = canvas.getContext("2d");
    this.events = events;
    /** @type {Line[]} */
    this.lines = [];
    this.from = 0;
    this.until = 1;
    this.step = 60e3;
    this.unit = "count";
    this.utc = false;
    this.theme = "light";
    this.cursor = null;
    this.drag = null;
    this.width = this.height = 0;
    this.left = leastLeft;
    new ResizeObserver(() => this.draw()).observe(canvas);
    addEventListener("resize", () => this.draw()); // the ratio of px may have changed
    this.bind();
  }

  /**
   * show draws lines over [from, until), both in ms.
   * @param {{lines: Line[], from: number, until: number, step: number, unit: string}} data step in ms
   */
  show(data) {
    Object.assign(this, data);
    this.draw();
  }

  setTheme(theme) {
    this.theme = theme;
    this.draw();
  }

  setZone(utc) {
    this.utc = utc;
    this.draw();
  }

  x(ms) {
    return this.left + ((ms - this.from) / (this.until - this.from)) * (this.width - this.left - right);
  }

  /** middle is where the value of the step that begins at t stands: in the middle of what the window has of it. */
  middle(t) {
    return (Math.max(this.from, t) + Math.min(this.until, t + this.step)) / 2;
  }

  time(px) {
    const part = (px - this.left) / (this.width - this.left - right);
    return this.from + Math.max(0, Math.min(1, part)) * (this.until - this.from);
  }

  draw() {
    const { canvas: c, ctx } = this;
    const ratio = devicePixelRatio || 1;
    this.width = c.clientWidth;
    this.height = c.clientHeight;
    if (!this.width || !this.height) return;
    c.width = Math.round(this.width * ratio);
    c.height = Math.round(this.height * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(c);
    // Custom properties come unresolved; these stand for them (see explore.css).
    this.colours = { text: style.color, grid: style.borderTopColor, accent: style.caretColor, surface: style.backgroundColor };
    ctx.font = "11px " + style.fontFamily;
    this.drawAxes();
    const shown = this.lines.filter((l) => !l.hidden);
    for (let i = this.lines.length - 1; i >= 0; i--) {
      if (!this.lines[i].hidden) this.drawLine(this.lines[i], seriesColour(i, this.theme), shown.length === 1);
    }
    this.drawBrush();
    this.drawCursor();
  }

  /** scale fits the values shown and returns the axis marks. */
  scale() {
    let max = 0;
    for (const l of this.lines) if (!l.hidden) for (const [, v] of l.points) if (v > max) max = v;
    const marks = ticks(max, this.unit, this.height > 130 ? 4 : 3);
    this.max = marks[marks.length - 1];
    return marks;
  }

  y(v) {
    return this.height - bottom - (v / this.max) * (this.height - bottom - topPad);
  }

  drawAxes() {
    const { ctx } = this;
    const marks = this.scale();
    const labels = this.lines.length ? axis(marks, this.unit) : marks.map(() => "");
    this.left = Math.max(leastLeft, ...labels.map((l) => Math.ceil(ctx.measureText(l).width) + 20));
    ctx.lineWidth = 1;
    ctx.textBaseline = "middle";
    ctx.textAlign = "right";
    for (const [i, v] of marks.entries()) {
      const y = Math.round(this.y(v)) + 0.5;
      ctx.strokeStyle = this.colours.grid;
      line(ctx, this.left, y, this.width - right, y);
      ctx.fillStyle = this.colours.text;
      ctx.fillText(labels[i], this.left - 8, y);
    }
    ctx.textAlign = "center";
    ctx.textBaseline = "alphabetic";
    for (const m of timeMarks(this.from, this.until, Math.max(2, Math.floor((this.width - this.left) / 90)), this.utc)) {
      const x = Math.round(this.x(m.at)) + 0.5;
      if (x < this.left + 12 || x > this.width - right - 12) continue;
      ctx.strokeStyle = this.colours.grid;
      line(ctx, x, this.height - bottom, x, this.height - bottom + 4);
      ctx.fillStyle = this.colours.text;
      ctx.fillText(m.text, x, this.height - 4);
    }
  }

  /** drawLine connects neighbouring steps; a missing step is a gap, a lone value a dot. */
  drawLine(l, colour, filled) {
    const { ctx } = this;
    const place = ([t, v]) => [this.x(this.middle(t)), this.y(v)];
    ctx.strokeStyle = ctx.fillStyle = colour;
    ctx.lineWidth = 1.5;
    ctx.lineJoin = "round";
    for (const run of runs(l.points, this.step)) {
      const at = run.map(place);
      if (at.length === 1) {
        ctx.beginPath();
        ctx.arc(at[0][0], at[0][1], 2, 0, 2 * Math.PI);
        ctx.fill();
        continue;
      }
      ctx.beginPath();
      for (const [x, y] of at) ctx.lineTo(x, y);
      ctx.stroke();
      if (!filled) continue;
      ctx.lineTo(at[at.length - 1][0], this.y(0));
      ctx.lineTo(at[0][0], this.y(0));
      ctx.globalAlpha = 0.14;
      ctx.fill();
      ctx.globalAlpha = 1;
    }
  }

  drawBrush() {
    if (!this.drag) return;
    const [a, b] = [this.drag.a, this.drag.b].sort((p, q) => p - q);
    const { ctx } = this;
    ctx.fillStyle = this.colours.accent;
    ctx.globalAlpha = 0.16;
    ctx.fillRect(a, topPad, b - a, this.height - bottom - topPad);
    ctx.globalAlpha = 1;
    ctx.fillRect(a, topPad, 1, this.height - bottom - topPad);
    ctx.fillRect(b, topPad, 1, this.height - bottom - topPad);
  }

  drawCursor() {
    if (this.cursor === null || this.drag) return;
    const { ctx } = this;
    const x = Math.round(this.x(this.cursor)) + 0.5;
    ctx.strokeStyle = this.colours.text;
    ctx.setLineDash([3, 3]);
    line(ctx, x, topPad, x, this.height - bottom);
    ctx.setLineDash([]);
    this.lines.forEach((l, i) => {
      const p = l.hidden ? null : this.pointAt(l, this.cursor);
      if (!p) return;
      ctx.fillStyle = seriesColour(i, this.theme);
      ctx.strokeStyle = this.colours.surface;
      ctx.beginPath();
      ctx.arc(x, this.y(p[1]), 3.5, 0, 2 * Math.PI);
      ctx.fill();
      ctx.stroke();
    });
  }

  /** pointAt is a line's point in the step that holds a time. */
  pointAt(l, at) {
    return l.points.find(([t]) => t <= at && at < t + this.step) ?? null;
  }

  /** hoverAt moves the cursor to the step nearest to px. */
  hoverAt(px) {
    if (px === null || !this.lines.length) {
      this.cursor = null;
      this.events.hover(null, []);
      this.draw();
      return;
    }
    const want = this.time(px);
    let best = null;
    let begin = null;
    for (const l of this.lines) {
      if (l.hidden) continue;
      for (const [t] of l.points) {
        const mid = this.middle(t);
        if (best === null || Math.abs(mid - want) < Math.abs(best - want)) [best, begin] = [mid, t];
      }
    }
    this.cursor = best;
    this.events.hover(begin, best === null ? [] : this.lines.map((l, i) => ({
      label: l.label, colour: seriesColour(i, this.theme), value: l.hidden ? null : this.pointAt(l, best)?.[1] ?? null,
    })));
    this.draw();
  }

  bind() {
    const c = this.canvas;
    const at = (e) => Math.max(this.left, Math.min(this.width - right, e.clientX - c.getBoundingClientRect().left));
    c.addEventListener("pointerdown", (e) => {
      if (e.button !== 0) return;
      c.setPointerCapture(e.pointerId);
      this.drag = { a: at(e), b: at(e) };
    });
    c.addEventListener("pointermove", (e) => {
      if (this.drag) {
        this.drag.b = at(e);
        this.draw();
      } else {
        this.hoverAt(at(e));
      }
    });
    c.addEventListener("pointerup", () => {
      const d = this.drag;
      this.drag = null;
      if (d && Math.abs(d.a - d.b) >= leastBrush) {
        const [from, until] = [this.time(d.a), this.time(d.b)].sort((p, q) => p - q);
        this.events.brush(from, until);
      }
      this.draw();
    });
    c.addEventListener("pointercancel", () => {
      this.drag = null;
      this.draw();
    });
    c.addEventListener("pointerleave", () => this.hoverAt(null));
    c.addEventListener("dblclick", () => this.events.out());
    c.addEventListener("keydown", (e) => this.onKey(e));
  }

  onKey(e) {
    const keys = {
      ArrowLeft: () => this.events.shift(-1),
      ArrowRight: () => this.events.shift(1),
      "-": () => this.events.out(),
      "+": () => this.narrow(),
      "=": () => this.narrow(),
      Escape: () => (this.drag = null),
    };
    if (!keys[e.key] || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    keys[e.key]();
    this.draw();
  }

  /** narrow chooses the middle half. */
  narrow() {
    const quarter = (this.until - this.from) / 4;
    this.events.brush(this.from + quarter, this.until - quarter);
  }
}

function line(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

/** runs cuts points where a step is missing. */
function runs(points, step) {
  const out = [];
  for (const p of points) {
    const run = out[out.length - 1];
    if (run && p[0] - run[run.length - 1][0] <= 1.5 * step) run.push(p);
    else out.push([p]);
  }
  return out;
}
