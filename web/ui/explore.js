// The explore page: state in, requests out, answers into the parts.

import { get, url } from "./api.js";
import { Combobox, narrowed } from "./combobox.js";
import { showCoverage } from "./coverage.js";
import { byId, copy, debounce, el, onTheme, onZone, say, theme, typing, utc } from "./dom.js";
import { Filters } from "./filters.js";
import { closeFloating, popover } from "./floating.js";
import { FlamePane } from "./flamepane.js";
import { pattern } from "./flametree.js";
import { Loader } from "./loader.js";
import { packagePattern } from "./names.js";
import { empty, failed, sentence } from "./notice.js";
import { parseSelector, selector, serviceOf, withEqual } from "./selector.js";
import { SourcePane } from "./sourcepane.js";
import { bindSplitter } from "./splitter.js";
import { Store } from "./state.js";
import { TopTable } from "./table.js";
import { bindTime } from "./timerange.js";
import { TimelinePane } from "./timelinepane.js";
import { iso, windowOf, windowText } from "./times.js";
import { groupTypes, hasRate, isInstant, typeTitle } from "./types.js";
import { ago, plural } from "./units.js";

const mostRows = 20000;
const mostNodes = 100000;
const lookBack = 14 * 86400e3; // where the newest profile is looked for when a window is empty

// The collector's clock decides what "now" is.
const skew = Number(document.documentElement.dataset.now) - Date.now();
const now = () => Date.now() + skew;

const work = byId("work");
const notice = byId("notice");
const views = ["table", "both", "graph"];

let period = windowOf("-1h", "now", now());
let services = [];
let types = [];
let functions = new Map(); // rows of the newest table of functions, by name

const loader = new Loader((busy) => work.setAttribute("aria-busy", String(busy)));
const store = new Store((state, before) => apply(state, before));
const pane = new FlamePane(store, (name) => functions.get(name));
const source = new SourcePane(store, (name) => !functions.size || functions.has(name));
const showTime = bindTime((patch) => store.set(patch), () => ({ ...store.state, window: period }));

const table = new TopTable(byId("table-pane"), {
  pick: (r) => pickRow(r),
  sandwich: (r) => pane.act("sandwich", r.name),
  source: (r) => pane.act("source", r.name),
  sort: (sort) => store.set({ sort }, true),
  menu: (r, x, y) => pane.menu(r.name, x, y),
});

const timeline = new TimelinePane({
  choose: (from, until) => store.set({ from: iso(from), until: iso(until) }),
  widen: (factor) => {
    const more = ((period.until - period.from) * (factor - 1)) / 2;
    const until = Math.min(now(), period.until + more);
    store.set({ from: iso(period.from - more), until: iso(until) });
  },
  shift: (direction) => {
    const by = ((period.until - period.from) / 2) * direction;
    store.set({ from: iso(period.from + by), until: iso(period.until + by) });
  },
});

const filters = new Filters({
  change: (query) => store.set({ query }),
  names: async () => (await get("/labels", selection())).values,
  values: async (name) => (await get(`/labels/${encodeURIComponent(name)}/values`, { ...range(), limit: 200 })).values,
});

const servicePicker = new Combobox(byId("service"), {
  options: (typed) => narrowed([{ value: "", text: "All services" }, ...services.map((s) => ({
    value: s.name, note: plural(s.instances, "instance") + (s.last ? " · " + ago(Date.parse(s.last), now()) : ""),
  }))], typed),
  choose: (name) => chooseService(name),
});

/** type is the type shown: the one chosen, else cpu. */
const type = () => store.state.type || "cpu";

const range = () => ({ from: iso(period.from), until: iso(period.until) });
const selection = () => ({ query: store.state.query, type: type(), ...range() });
const values = () => ({
  ...selection(), agg: isInstant(type()) ? store.state.agg : "", rate: hasRate(type()) && store.state.rate === "1",
});

function chooseService(name) {
  const ms = parseSelector(store.state.query) ?? [];
  const patch = { query: selector(withEqual(ms, "service", name)), zoom: "", sandwich: "", focus: "", hide: [], mark: "", source: "", build: "", at: "" };
  const has = services.find((s) => s.name === name)?.types;
  if (has?.length && !has.includes(type())) patch.type = groupTypes(has.map((t) => ({ name: t, kind: "", unit: "" })))[0].types[0].name;
  store.set(patch);
}

function pickRow(r) {
  const by = store.state.top;
  if (by === "function") store.set({ mark: store.state.mark === r.name ? "" : r.name }, true);
  else if (by === "package") store.set({ search: packagePattern(r.name), top: "function" });
  else store.set({ query: selector(withEqual(parseSelector(store.state.query) ?? [], by, r.name)), top: "function" });
}

/** apply brings the page to a state: what only shows at once, what needs data when it comes. */
function apply(state, before) {
  if (!before || state.from !== before.from || state.until !== before.until) period = windowOf(state.from, state.until, now());
  if (before && (state.query !== before.query || state.type !== before.type)) filters.showError("");
  controls(state);
  source.update(state, before);
  load(state);
  if (before) pane.update(state, before);
  if (!before || state.search !== before.search) table.filter(pattern(state.search).test);
  if (!before || state.sort !== before.sort) table.setSort(state.sort);
  if (!before || state.mark !== before.mark) table.pick(state.mark);
  if (!before || state.auto !== before.auto) autoLoad(state.auto);
}

/** controls writes the state into the page's fields. */
function controls(state) {
  const service = serviceOf(parseSelector(state.query));
  filters.show(state.query);
  servicePicker.set(service);
  showTypes();
  showTime();
  byId("series-by").value = state.by;
  byId("top-by").value = state.top;
  byId("agg").value = state.agg;
  byId("agg-field").hidden = !isInstant(type());
  byId("rate").checked = state.rate === "1";
  byId("rate-field").hidden = !hasRate(type());
  byId("auto").value = state.auto;
  byId("auto").disabled = state.until !== "now"; // a window in the past does not change
  const search = byId("search");
  if (search.value !== state.search) search.value = state.search;
  byId("panes").dataset.view = state.view;
  for (const b of document.querySelectorAll(".segments [data-view]")) b.setAttribute("aria-pressed", String(!state.source && b.dataset.view === state.view));
  byId("flip-text").textContent = state.root === "bottom" ? "Flame" : "Icicle";
  document.title = [service || "All services", typeTitle(type()), "Inquest"].join(" · ");
}

/** showTypes fills the type picker with the types there are, the shown one always among them. */
function showTypes() {
  const select = byId("type");
  const all = types.some((t) => t.name === type()) ? types : [...types, { name: type(), kind: "", unit: "", missing: types.length > 0 }];
  const key = JSON.stringify(all);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...groupTypes(all).map((g) => {
      const options = g.types.map((t) => el("option", { value: t.name }, typeTitle(t.name) + (t.missing ? " (none here)" : "")));
      return g.title ? el("optgroup", { label: g.title }, ...options) : options[0];
    }));
  }
  select.value = type();
}

/** load asks for every part whose question changed. */
function load(state) {
  const part = (name, path, params, show, fail) => loader.need(name, url(path, params), (signal) => get(path, params, signal), show, fail);
  // Without these two the pickers offer less; what is wrong is said by the parts that show data.
  const pass = () => {};
  part("services", "/services", range(), (a) => {
    services = a.values;
  }, pass);
  part("types", "/types", { query: state.query, ...range() }, (a) => {
    types = a.values;
    if (!state.type && types.length && !types.some((t) => t.name === "cpu")) store.set({ type: groupTypes(types)[0].types[0].name }, true);
    showTypes();
  }, pass);
  part("flame", "/flamegraph", { ...values(), max_nodes: state.nodes || mostNodes }, (a) => showFlame(a), failFlame);
  part("top", "/top", { ...values(), by: state.top, limit: mostRows }, (a) => showTop(a, state.top), failTop);
  if (state.source) {
    part("source", "/source", { ...selection(), function: state.source, build: state.build, agg: newestOrLargest(state.agg) }, (a) => showSource(a), (err) => source.fail(err, store.state, refresh));
  }
  const [shownType, by, shownPeriod] = [type(), state.by, period];
  part("series", "/series", { ...range(), ...timeline.params(state, type()) }, (a) => timeline.show(a, shownType, by, shownPeriod),
    (err) => timeline.fail(sentence(err.message)));
}

/** newestOrLargest is the choice of single profiles that lines can have too; else they are sums. */
const newestOrLargest = (agg) => (isInstant(type()) && (agg === "max" || agg === "last") ? agg : "");

function showSource(answer) {
  const { at } = store.state;
  source.show(answer, { at, averaged: isInstant(type()) && store.state.agg === "", perSecond: values().rate });
}

let asked = ""; // question of the flame graph shown

function showFlame(answer) {
  const question = JSON.stringify([store.state.query, type(), store.state.from, store.state.until]);
  pane.show(answer, store.state, question === asked);
  asked = question;
  showCoverage(byId("coverage"), answer);
  filters.showError("");
  notice.hidden = true;
  byId("panes").classList.toggle("void", answer.coverage.profiles === 0);
  if (answer.coverage.profiles === 0) nothing();
}

function showTop(answer, by) {
  if (by === "function") functions = new Map(answer.rows.map((r) => [r.name, r]));
  table.show(answer, by === "function");
  const note = byId("table-note");
  note.hidden = answer.rows.length >= (answer.count ?? 0);
  note.textContent = `The first ${plural(answer.rows.length, "row")} of ${answer.count}.`;
}

/** nothing says that the window is empty, and where profiles are. */
async function nothing() {
  const service = serviceOf(parseSelector(store.state.query));
  const key = loader.parts.get("flame")?.key;
  const before = await get("/services", { from: iso(period.until - lookBack), until: iso(now()) }).then((a) => a.values, () => services);
  if (loader.parts.get("flame")?.key !== key) return;
  const last = before.filter((s) => !service || s.name === service).map((s) => Date.parse(s.last)).filter((t) => t > 0);
  const newest = last.length ? Math.max(...last) : null;
  empty(notice, {
    type: type(), service, window: windowText(store.state.from, store.state.until, utc()), utc: utc(), now: now(), types, services: before.length,
    filtered: (parseSelector(store.state.query) ?? [1, 1]).length > (service ? 1 : 0),
    newest: newest !== null && (newest < period.from || newest >= period.until) ? newest : null,
  }, {
    goTo: (ms) => store.set({ from: iso(ms - 1800e3), until: iso(ms + 60e3) }),
    setType: (t) => store.set({ type: t }),
    clear: () => store.set({ query: selector(withEqual([], "service", service)) }),
  });
}

function failTop(err) {
  table.show({ rows: [], total: 0, unit: "count" }, true);
  byId("table-note").hidden = false;
  byId("table-note").textContent = sentence(err.message);
}

/** failFlame shows an error where its cause is, under the selector, and in the place of the data. */
function failFlame(err) {
  if (err.status === 400 && /selector|query|matcher|label/i.test(err.message)) filters.showError(err.message);
  pane.show(null, store.state, false);
  showCoverage(byId("coverage"), null);
  byId("panes").classList.add("void");
  failed(notice, err, refresh);
}

/** refresh asks for everything again; a relative window moves on. */
function refresh() {
  period = windowOf(store.state.from, store.state.until, now());
  loader.forget();
  load(store.state);
}

let timer = 0;

function autoLoad(seconds) {
  clearInterval(timer);
  const n = Number(seconds);
  if (n > 0) timer = setInterval(() => document.visibilityState === "visible" && store.state.until === "now" && refresh(), n * 1000);
}

/** bindControls connects the fields that hold no logic of their own. */
function bindControls() {
  const on = (id, event, f) => byId(id).addEventListener(event, f);
  on("type", "change", (e) => store.set({ type: e.target.value, zoom: "", agg: "", rate: isInstant(e.target.value) ? "" : store.state.rate }));
  on("series-by", "change", (e) => store.set({ by: e.target.value }));
  on("top-by", "change", (e) => store.set({ top: e.target.value }));
  on("agg", "change", (e) => store.set({ agg: e.target.value }));
  on("rate", "change", (e) => store.set({ rate: e.target.checked ? "1" : "" }));
  on("auto", "change", (e) => store.set({ auto: e.target.value }, true));
  on("search", "input", debounce((e) => store.set({ search: byId("search").value }, true), 120));
  on("search", "keydown", (e) => {
    if (e.key === "Enter") {
      store.set({ search: e.target.value }, true);
      pane.graph.selectNextHit();
    }
    if (e.key === "Escape") {
      e.preventDefault();
      e.stopPropagation();
      if (e.target.value) store.set({ search: "" }, true);
      else byId("flame").focus();
    }
  });
  on("refresh", "click", refresh);
  on("flip", "click", flip);
  on("share", "click", shareLink);
  on("export", "click", showExport);
  on("help", "click", () => byId("help-dialog").showModal());
  for (const b of document.querySelectorAll(".segments [data-view]")) b.addEventListener("click", () => setView(b.dataset.view));
  on("open-source", "click", openSource);
  document.addEventListener("keydown", onKey);
  onTheme(() => {
    pane.setTheme();
    table.setTheme(theme());
  });
  onZone(showTime);
}

/** setView shows table, graph or both, in the place of the source. */
const setView = (view) => store.set({ view, source: "", build: "", at: "" });

/** openSource shows the lines of the function chosen: the frame, the marked one, that of the sandwich, else the first of the table. */
function openSource() {
  const { mark, sandwich, source: open } = store.state;
  const name = pane.selected() || mark || sandwich || (store.state.top === "function" && table.rows[0]?.name);
  if (open) return;
  if (name) pane.act("source", name);
  else say("Choose a function in the table or the graph first");
}

const flip = () => store.set({ root: store.state.root === "bottom" ? "top" : "bottom" });

/** shareLink copies the page's address with its window pinned, so that it shows the same tomorrow. */
function shareLink() {
  const link = new URL(location.href);
  link.searchParams.set("from", iso(period.from));
  link.searchParams.set("until", iso(period.until));
  link.searchParams.delete("auto");
  copy(link.href, "Link to this view");
}

function showExport(e) {
  const address = location.origin + url("/api/v1/profile", { query: store.state.query, type: type(), ...range() });
  const command = `go tool pprof -http=: '${address.replaceAll("'", "%27")}'`;
  popover(e.currentTarget, "Profile as pprof",
    el("h2", {}, "Open in go tool pprof"),
    el("code", { class: "command", tabindex: 0 }, command),
    document.querySelector('form[action="/logout"]') ? el("p", { class: "fine" }, "This collector asks for a token: write it as http://x:TOKEN@host in the address.") : "",
    el("div", { class: "row" },
      el("button", { type: "button", class: "primary", click: () => copy(command, "Command") }, "Copy command"),
      el("a", { class: "button", href: address, download: "" }, "Download pprof"),
      el("button", { type: "button", click: () => copy(address, "Address") }, "Copy address")));
}

/** onKey takes the keys that hold for the whole page. */
function onKey(e) {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]")) return;
  if (typing(e.target)) return;
  const keys = {
    "/": () => byId("search").focus(),
    "?": () => byId("help-dialog").showModal(),
    i: flip,
    r: refresh,
    o: openSource,
    s: () => store.state.source && source.sandwich(),
    v: () => setView(store.state.source ? store.state.view : views[(views.indexOf(store.state.view) + 1) % views.length]),
    Escape: () => escape(),
  };
  const act = keys[e.key];
  if (!act) return;
  e.preventDefault();
  act();
}

/** escape goes back by one: what floats, the zoom, the sandwich, the lenses, the search. */
function escape() {
  const s = store.state;
  if (closeFloating()) return;
  if (s.source) {
    source.close();
    return;
  }
  if (pane.graph.zoomed > 0 || pane.graph.view.x1 - pane.graph.view.x0 < 1) pane.graph.zoomTo(-1);
  else if (s.sandwich) store.set({ sandwich: "" });
  else if (s.focus || s.hide.length) store.set({ focus: "", hide: [] });
  else if (s.search || s.mark) store.set({ search: "", mark: "" });
}

table.setTheme(theme());
bindControls();
bindSplitter();
apply(store.state, null);
