// The bar between table and graph: dragged or moved with the arrow keys; the
// share is remembered in this browser.

import { byId } from "./dom.js";

const key = "inquest.split";
const least = 15; // percent of the width either side keeps
const usual = 43;

/** bindSplitter connects the bar. */
export function bindSplitter() {
  const bar = byId("splitter");
  const panes = byId("panes");
  let share = usual;

  const set = (percent, keep) => {
    share = Math.round(Math.min(100 - least, Math.max(least, percent)) * 10) / 10;
    panes.style.setProperty("--table", share + "%");
    bar.setAttribute("aria-valuenow", String(Math.round(share)));
    if (!keep) return;
    try {
      localStorage.setItem(key, String(share));
    } catch {
      // Storage is refused: the share holds for this page.
    }
  };

  bar.addEventListener("pointerdown", (e) => {
    if (e.button !== 0) return;
    e.preventDefault();
    bar.setPointerCapture(e.pointerId);
  });
  bar.addEventListener("pointermove", (e) => {
    if (!bar.hasPointerCapture(e.pointerId)) return;
    const r = panes.getBoundingClientRect();
    set((100 * (e.clientX - r.left)) / r.width, true);
  });
  bar.addEventListener("dblclick", () => set(usual, true));
  bar.addEventListener("keydown", (e) => {
    const to = { ArrowLeft: share - 2, ArrowRight: share + 2, Home: least, End: 100 - least, Enter: usual }[e.key];
    if (to === undefined) return;
    e.preventDefault();
    set(to, true);
  });
  let kept = null;
  try {
    kept = localStorage.getItem(key);
  } catch {
    // Storage is refused: the usual share does.
  }
  set(Number(kept) || usual, false);
}
