// Small helpers to build and find elements. No inline markup is ever parsed:
// text stays text.

/**
 * el makes an element. Attributes that are functions become listeners, a
 * property starting with "." is set as a property, true sets an empty
 * attribute, false and null leave it out.
 * @param {string} tag
 * @param {Record<string, any>} [attrs]
 * @param {...(Node|string|null|false|undefined)} children
 * @returns {HTMLElement}
 */
export function el(tag, attrs = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (v === null || v === undefined || v === false) continue;
    if (typeof v === "function") e.addEventListener(k.replace(/^on/, ""), v);
    else if (k.startsWith(".")) e[k.slice(1)] = v;
    else e.setAttribute(k, v === true ? "" : String(v));
  }
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
  return e;
}

/** byId finds an element that the page's template holds. @param {string} id @returns {any} */
export function byId(id) {
  const e = document.getElementById(id);
  if (!e) throw new Error(`the page has no element #${id}`);
  return e;
}

const ns = "http://www.w3.org/2000/svg";

/** icon makes an <svg> that shows a symbol of the page's icon sheet. */
export function icon(name) {
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(ns, "use");
  use.setAttribute("href", "#i-" + name);
  svg.append(use);
  return svg;
}

/** debounce calls f once after ms without a further call. */
export function debounce(f, ms) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
}

/** typing says whether an element takes characters as text or choice, so that a key there is no command. */
export const typing = (e) => Boolean(e.closest?.('input:not([type="checkbox"]), select, textarea'));

/** say puts a sentence where screen readers announce it and shows it for a moment. */
export function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 2600);
}

/** copy puts text on the clipboard and says so. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS browsers offer no clipboard but the old way of selecting.
    const area = el("textarea", { ".value": text, readonly: true, class: "offscreen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(what + " copied");
}

/** theme is the theme in use now. @returns {"light"|"dark"} */
export function theme() {
  const set = document.documentElement.dataset.theme;
  if (set === "light" || set === "dark") return set;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** onTheme calls f whenever the theme in use changes. */
export function onTheme(f) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", f);
  addEventListener("inquest:theme", f);
}

/** utc says whether times are shown in UTC. */
export const utc = () => document.documentElement.dataset.zone === "utc";

/** onZone calls f when the choice between UTC and browser time changes. */
export const onZone = (f) => addEventListener("inquest:zone", f);

/** onOutside calls f at a press outside of e; it returns what ends that. */
export function onOutside(e, f) {
  const press = (ev) => {
    if (!e.contains(ev.target)) f(ev);
  };
  addEventListener("pointerdown", press, true);
  return () => removeEventListener("pointerdown", press, true);
}
