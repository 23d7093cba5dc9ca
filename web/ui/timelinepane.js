// The timeline part of the explore page: which lines, their legend and what
// the pointer reads.

import { byId, el, onTheme, onZone, theme, utc } from "./dom.js";
import { seriesColour } from "./colour.js";
import { Timeline } from "./timeline.js";
import { hasRate, typeTitle } from "./types.js";
import { dateTime, format, span } from "./units.js";

const most = 8; // lines of their own; the rest are added up

export class TimelinePane {
  /**
   * @param {Object} acts
   * @param {(from: number, until: number) => void} acts.choose
   * @param {(factor: number) => void} acts.widen
   * @param {(direction: number) => void} acts.shift
   */
  constructor(acts) {
    this.hidden = new Set(); // labels of lines switched off
    this.readout = byId("timeline-readout");
    this.hint = this.readout.textContent;
    this.timeline = new Timeline(byId("timeline"), {
      brush: acts.choose,
      out: () => acts.widen(3),
      shift: acts.shift,
      hover: (at, values) => this.read(at, values),
    });
    const dress = () => {
      this.timeline.setTheme(theme());
      this.timeline.setZone(utc());
      this.legend();
    };
    onTheme(dress);
    onZone(dress);
    this.timeline.setTheme(theme());
    this.timeline.setZone(utc());
  }

  /**
   * params of /api/v1/series. Amounts over time are always asked for per
   * second: a sum per step would change with the step, which the collector
   * chooses.
   */
  params(state, type) {
    return { query: state.query, type, by: state.by, rate: hasRate(type), agg: hasRate(type) ? "" : state.agg };
  }

  /** show draws an answer of /api/v1/series. */
  show(answer, type, by, window) {
    byId("timeline-title").textContent = typeTitle(type);
    const weigh = (s) => s.points.reduce((sum, [, v]) => sum + v, 0);
    const all = answer.series.map((s) => ({ s, weight: weigh(s) })).sort((a, b) => b.weight - a.weight);
    const lines = all.slice(0, most).map(({ s }) => ({ label: by ? s.labels[by] || "(none)" : "total", points: s.points.map(([t, v]) => [t * 1000, v]) }));
    if (all.length > most) lines.push(rest(all.slice(most).map(({ s }) => s)));
    for (const l of lines) l.hidden = this.hidden.has(l.label);
    this.by = by;
    this.timeline.show({ lines, from: window.from, until: window.until, step: answer.step * 1000, unit: answer.unit });
    this.estimated = answer.coverage?.estimated;
    this.legend();
    this.read(null, []);
    byId("timeline").setAttribute("aria-label", `Timeline of ${typeTitle(type)}, ${lines.length} ${lines.length === 1 ? "line" : "lines"}. Arrow keys move the window, plus and minus change its length.`);
  }

  /** fail takes the lines away and says why. */
  fail(message) {
    this.timeline.show({ lines: [] });
    this.legend();
    this.readout.replaceChildren(message);
  }

  legend() {
    const lines = this.by ? this.timeline.lines : [];
    byId("legend").replaceChildren(...lines.map((l, i) => {
      const swatch = el("i", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = seriesColour(i, theme());
      return el("li", {}, el("button", {
        type: "button", "aria-pressed": String(!l.hidden), title: l.hidden ? "Show this line" : "Hide this line", click: () => {
          l.hidden = !l.hidden;
          if (l.hidden) this.hidden.add(l.label);
          else this.hidden.delete(l.label);
          this.timeline.draw();
          this.legend();
        },
      }, swatch, el("span", {}, l.label)));
    }));
  }

  /** read writes what stands under the cursor. */
  read(at, values) {
    const t = this.timeline;
    if (at === null) {
      const per = t.lines.length ? `one value per ${span(t.step / 1000)}${this.estimated ? ", estimated" : ""} · ` : "";
      this.readout.replaceChildren(per + this.hint);
      return;
    }
    const parts = [el("b", {}, dateTime(at, utc(), t.step < 60e3))];
    for (const v of values) {
      if (v.value === null) continue;
      const swatch = el("i", { class: "swatch" });
      swatch.style.background = v.colour;
      parts.push(swatch, (values.length > 1 ? v.label + " " : "") + format(v.value, t.unit));
    }
    this.readout.replaceChildren(...parts);
  }
}

/** rest adds up the lines that get none of their own. */
function rest(series) {
  const sum = new Map();
  for (const s of series) for (const [t, v] of s.points) sum.set(t, (sum.get(t) ?? 0) + v);
  return { label: `${series.length} others`, points: [...sum].sort((a, b) => a[0] - b[0]).map(([t, v]) => [t * 1000, v]) };
}
