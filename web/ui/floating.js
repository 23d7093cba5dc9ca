// What floats above the page: popovers with fields, menus.

import { byId, el, onOutside } from "./dom.js";

/** place puts an element near a point or below an anchor, within the window. */
export function place(e, x, y, above = y) {
  const { offsetWidth: w, offsetHeight: h } = e;
  const left = Math.max(8, Math.min(x, innerWidth - w - 8));
  const fits = y + h + 8 <= innerHeight;
  const top = fits ? y : Math.max(8, above - h);
  e.style.left = left + "px";
  e.style.top = top + "px";
}

let close = null;

/** closeFloating closes what is open; it says whether anything was. */
export function closeFloating(back = true) {
  if (!close) return false;
  close(back);
  return true;
}

/** float shows e until a press outside, Escape, or closeFloating. */
function float(e, anchor, put) {
  closeFloating(false);
  e.hidden = false;
  put();
  anchor?.setAttribute("aria-expanded", "true");
  const before = document.activeElement;
  const ends = [onOutside(e, (ev) => {
    if (!anchor?.contains(ev.target)) closeFloating(false);
  })];
  const key = (ev) => {
    if (ev.key !== "Escape") return;
    ev.preventDefault();
    ev.stopPropagation();
    closeFloating();
  };
  e.addEventListener("keydown", key);
  const away = () => closeFloating(false);
  addEventListener("resize", away);
  close = (back) => {
    close = null;
    e.hidden = true;
    anchor?.setAttribute("aria-expanded", "false");
    e.removeEventListener("keydown", key);
    removeEventListener("resize", away);
    ends.forEach((f) => f());
    if (back) (anchor ?? before)?.focus({ preventScroll: true });
  };
}

/**
 * popover shows content below a button; a second press closes it.
 * @param {HTMLElement} anchor @param {string} label @param {(Node|string)[]} content
 */
export function popover(anchor, label, ...content) {
  if (anchor.getAttribute("aria-expanded") === "true") {
    closeFloating();
    return;
  }
  const box = byId("popover");
  box.setAttribute("aria-label", label);
  box.replaceChildren(...content);
  const r = anchor.getBoundingClientRect();
  float(box, anchor, () => place(box, Math.min(r.left, r.right - Math.min(r.width, 60)), r.bottom + 6, r.top - 6));
  box.querySelector("[autofocus], button, input, select")?.focus({ preventScroll: true });
}

/**
 * menu shows actions at a point.
 * @param {number} x @param {number} y @param {string} title
 * @param {{text: string, key?: string, act: () => void}[]} items
 */
export function menu(x, y, title, items) {
  const box = byId("menu");
  const buttons = items.map((i) => el("button", { type: "button", role: "menuitem", tabindex: -1, click: () => {
    closeFloating();
    i.act();
  } }, el("span", {}, i.text), i.key ? el("kbd", {}, i.key) : null));
  box.setAttribute("aria-label", title);
  box.replaceChildren(el("div", { class: "menu-title" }, title), ...buttons);
  float(box, null, () => place(box, x, y));
  box.onkeydown = (e) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[e.key];
    const byKey = items.findIndex((i) => i.key === e.key);
    if (to !== undefined) buttons[(to + buttons.length) % buttons.length].focus();
    else if (byKey >= 0) buttons[byKey].click();
    else return;
    e.preventDefault();
    e.stopPropagation();
  };
  box.oncontextmenu = (e) => e.preventDefault();
  buttons[0]?.focus({ preventScroll: true });
}
