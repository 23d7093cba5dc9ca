// The builds page: which builds run where, and what is stored of them.

import { get } from "./api.js";
import { buildLink, byCode, codeOf, codes, goShares, goVersion, names, seen, shares, shortID, sortable, sorted } from "./buildwords.js";
import { command, pushCommand } from "./command.js";
import { byId, debounce, el, onZone, typing, utc } from "./dom.js";
import { Loader } from "./loader.js";
import { failed, fill, sentence } from "./notice.js";
import { ago, count, dateTime, percent, plural } from "./units.js";

const page = 200; // rows drawn at first
const further = 1000; // rows drawn each time somebody asks for more
const texts = ["service", "module", "module_below", "go_below"];
const asked = ["module", "module_below", "go_below"]; // of the collector; the rest is filtered here
const checks = ["dirty", "missing", "vulnerable"];
const newest = "-last";
const empty = { service: "", module: "", module_below: "", go_below: "", dirty: false, missing: false, vulnerable: false };
const state = { ...empty, sort: newest };
const notice = byId("notice");
const list = byId("list");
const barError = byId("bar-error");
const skew = Number(document.documentElement.dataset.now) - Date.now();
const now = () => Date.now() + skew;

/** @type {import("./buildwords.js").Build[]|null} */
let all = null;
/** @type {import("./buildwords.js").Build[]|null} those the collector's filters let through */
let passed = null;
let most = page;

const loader = new Loader((busy) => list.setAttribute("aria-busy", String(busy)));

function readURL() {
  const q = new URLSearchParams(location.search);
  for (const name of texts) byId(name).value = state[name] = q.get(name) ?? "";
  for (const name of checks) byId(name).checked = state[name] = q.get(name) === "1";
  state.sort = sortable(q.get("sort") ?? "") ? q.get("sort") : newest;
}

function writeURL() {
  const q = new URLSearchParams();
  for (const name of texts) if (state[name]) q.set(name, state[name]);
  for (const name of checks) if (state[name]) q.set(name, "1");
  if (state.sort !== newest) q.set("sort", state.sort);
  history.replaceState(null, "", location.pathname + (q.size ? "?" + q : ""));
}

/** load asks for what the state needs and was not asked yet. */
function load() {
  loader.need("all", "all", (signal) => get("/builds", {}, signal), (a) => {
    all = a.values;
    draw();
  }, (err) => {
    if (all) byId("counts").textContent = "Not up to date: " + err.message;
    else {
      byId("counts").textContent = "";
      failed(notice, err, load);
    }
  });
  const filters = Object.fromEntries(asked.map((name) => [name, state[name]]));
  if (!asked.some((name) => state[name])) {
    loader.need("passed", "", async () => null, () => showPassed(null), () => {});
    return;
  }
  loader.need("passed", JSON.stringify(filters), (signal) => get("/builds", filters, signal), (a) => showPassed(a.values), (err) => showError(err.message));
}

function showPassed(builds) {
  passed = builds;
  showError("");
  draw();
}

/** showError says under the bar what is wrong with a filter; "" nothing. */
function showError(message) {
  barError.hidden = !message;
  barError.textContent = message && sentence(message);
  for (const name of asked) {
    if (message.startsWith(`parameter ${name}=`)) byId(name).setAttribute("aria-invalid", "true");
    else byId(name).removeAttribute("aria-invalid");
  }
}

const filtered = () => Object.keys(empty).some((name) => state[name]);

/** shown are the builds every filter lets through. */
function shown() {
  const want = state.service.toLowerCase();
  return (passed ?? all).filter((b) => (!want || names(b).some((n) => n.toLowerCase().includes(want))) &&
    (!state.dirty || b.modified) && (!state.missing || b.code === "missing") && (!state.vulnerable || b.vulnerability_count > 0));
}

function draw() {
  if (!all) return;
  const builds = shown();
  showCounts(builds);
  byId("clear").hidden = !filtered();
  byId("vulnerable-check").hidden = !state.vulnerable && !all.some((b) => b.vulnerability_count !== undefined);
  byId("services").replaceChildren(...[...new Set(all.flatMap(names))].sort().map((s) => el("option", { value: s })));
  overview(builds);
  notice.hidden = builds.length > 0;
  list.hidden = builds.length === 0;
  if (!builds.length) nothing();
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  const rows = sorted(builds, state.sort);
  byId("rows").replaceChildren(...rows.slice(0, most).map(row));
  if (focused) byId("rows").querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  for (const b of list.querySelectorAll("thead button")) {
    const th = b.closest("th");
    if (state.sort.replace("-", "") === b.dataset.sort) th.setAttribute("aria-sort", state.sort.startsWith("-") ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
  const more = byId("more");
  more.hidden = rows.length <= most;
  more.replaceChildren(`${count(most)} of ${count(rows.length)} are listed. `, el("button", { type: "button", click: () => {
    most += further;
    draw();
  } }, "List more"));
}

function showCounts(builds) {
  const services = new Set(builds.flatMap(names)).size;
  const parts = [filtered() ? `${count(builds.length)} of ${plural(all.length, "build")}` : plural(builds.length, "build") + (services ? ` of ${plural(services, "service")}` : "")];
  const missing = builds.filter((b) => b.code === "missing").length;
  if (missing) parts.push(missing === 1 ? "1 binary missing" : `${count(missing)} binaries missing`);
  const vulnerable = builds.filter((b) => b.vulnerability_count > 0).length;
  if (vulnerable) parts.push(`${count(vulnerable)} with known vulnerabilities`);
  const conflicts = builds.filter((b) => b.conflict).length;
  if (conflicts) parts.push(plural(conflicts, "conflict"));
  const silent = all.filter((b) => !b.go_version).length;
  if (silent && asked.some((name) => state[name])) parts.push(`of ${count(silent)} the modules are not known`);
  const text = all.length ? parts.join(" · ") : "";
  if (byId("counts").textContent !== text) byId("counts").textContent = text; // else it would be read out again
}

function nothing() {
  if (!all.length) {
    fill(notice, "No builds yet", [
      "A build shows up with its first profile, or when its binary is pushed. Stored binaries give names to addresses and are what debuggers fetch:",
    ], [command(pushCommand(), "push binaries"), el("a", { class: "button", href: "/targets" }, "See targets")]);
    return;
  }
  fill(notice, "Nothing matches", ["No build is like that. A build that nothing but its id is known of has no modules and no version of Go to match."],
    [el("button", { type: "button", click: clear }, "Show all")]);
}

/** overview draws the shares of what is listed. */
function overview(builds) {
  byId("overview").hidden = builds.length === 0;
  const stored = shares(builds, (b) => b.code, byCode);
  byId("codes-bar").replaceChildren(...stored.map((s) => wide(el("i", { class: "share-part " + codes[s.name]?.kind }), s.count, builds.length)));
  byId("codes-key").replaceChildren(...stored.map((s) => el("li", { title: codes[s.name]?.says }, el("i", { class: "swatch " + codes[s.name]?.kind, "aria-hidden": "true" }),
    `${codes[s.name]?.word ?? s.name} `, el("b", {}, count(s.count)), el("span", { class: "fine" }, percent(s.count, builds.length)))));
  const gos = goShares(builds);
  const largest = Math.max(...gos.map((g) => g.count));
  byId("gos").replaceChildren(...gos.map((g) => el("li", {}, el("span", { class: g.name ? "mono" : "fine" }, g.name.replace("go", "") || "unknown"),
    el("span", { class: "share-track", "aria-hidden": "true" }, wide(el("i", { class: "share-part" + (g.name ? " plain" : "") }), g.count, largest)), el("b", {}, count(g.count)))));
  const missing = builds.some((b) => b.code === "missing");
  byId("push").hidden = !missing;
  if (missing && !byId("push-command").childElementCount) byId("push-command").append(command(pushCommand(), "push binaries"));
}

/** wide gives an element its share of the width. */
function wide(e, part, whole) {
  e.style.width = (100 * part) / whole + "%";
  return e;
}

function row(b) {
  const at = seen(b);
  const word = codeOf(b);
  const services = names(b);
  return el("tr", {},
    el("th", { scope: "row", "data-th": "Build", class: "mono" }, el("a", { href: buildLink(b.id), title: b.id, "data-key": b.id }, shortID(b.id))),
    el("td", { "data-th": "Services", title: services.join("\n") }, services.slice(0, 3).join(", ") + (services.length > 3 ? ` and ${services.length - 3} more` : "") || none()),
    el("td", { "data-th": "Version", class: "mono" }, b.version ? el("span", { class: "version", title: b.version }, b.version) : none()),
    el("td", { "data-th": "Revision" }, b.revision ? el("span", { class: "mono", title: b.revision + (b.time ? "\n" + b.time : "") }, b.revision.slice(0, 12)) : b.modified ? null : none(),
      " ", b.modified ? el("span", { class: "state warn", title: "Built with changes that were not committed" }, "dirty") : null),
    el("td", { "data-th": "Go", class: "mono", title: b.go_version }, goVersion(b).replace("go", "") || none()),
    el("td", { "data-th": "Modules", class: "num" }, b.module_count ? count(b.module_count) : none(),
      b.vulnerability_count ? [" ", el("a", { class: "state bad", href: buildLink(b.id) + "#vulnerabilities-title", title: plural(b.vulnerability_count, "known vulnerability", "known vulnerabilities") + " of its modules" }, count(b.vulnerability_count), el("span", { class: "offscreen" }, " vulnerable"))] : null),
    el("td", { "data-th": "First seen" }, when(at.first)),
    el("td", { "data-th": "Last seen" }, when(at.last)),
    el("td", { "data-th": "Binary", class: "words" }, el("span", { class: "state " + word.kind, title: word.says }, word.word),
      " ", b.conflict ? el("span", { class: "state bad", title: "Binaries of this id differ in their code" }, "conflict") : null,
      " ", b.fetching ? el("span", { class: "state", title: "Another server is being asked for it" }, "being fetched") : null));
}

const none = () => el("span", { class: "fine" }, "–");

const when = (ms) => (Number.isNaN(ms) ? none() : el("time", { datetime: new Date(ms).toISOString(), title: dateTime(ms, utc()) }, ago(ms, now())));

/** take reads the bar into the state. */
function take() {
  for (const name of texts) state[name] = byId(name).value.trim();
  for (const name of checks) state[name] = byId(name).checked;
  most = page;
  writeURL();
  load();
  draw();
}

/** again loads everything anew. */
function again() {
  loader.forget();
  load();
}

function clear() {
  Object.assign(state, empty);
  writeURL();
  readURL();
  load();
  draw();
  byId("service").focus();
}

byId("bar").addEventListener("submit", (e) => {
  e.preventDefault();
  take();
});
byId("bar").addEventListener("change", take);
byId("service").addEventListener("input", debounce(take, 150));
// The cross of a search field tells by this alone that it was emptied.
for (const name of asked) byId(name).addEventListener("input", (e) => e.target.value || take());
byId("clear").addEventListener("click", clear);
for (const b of list.querySelectorAll("thead button")) {
  b.addEventListener("click", () => {
    const key = b.dataset.sort;
    const down = ["modules", "first", "last", "go"].includes(key); // the largest first
    const first = (down ? "-" : "") + key;
    state.sort = state.sort === first ? (down ? key : "-" + key) : first;
    writeURL();
    draw();
  });
}
addEventListener("popstate", () => {
  readURL();
  load();
  draw();
});
document.addEventListener("keydown", (e) => {
  if (!["/", "r"].includes(e.key) || typing(e.target) || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault();
  if (e.key === "/") byId("service").focus();
  else again();
});
onZone(draw);
byId("refresh").addEventListener("click", again);
readURL();
load();
