// The targets page: every agent, every target, what became of the last scrape,
// and "profile now".

import { get, post } from "./api.js";
import { buildLink, shortID } from "./buildwords.js";
import { byId, debounce, el, icon, onZone, typing, utc } from "./dom.js";
import { Loader } from "./loader.js";
import { failed, fill, sentence } from "./notice.js";
import { selector } from "./selector.js";
import { agentProblem, matchesFilter, targetProblem } from "./targetstate.js";
import { openSnapshot, snapshotOpen } from "./snapshot.js";
import { iso } from "./times.js";
import { isInstant, kindTitle } from "./types.js";
import { ago, count, dateTime, format, plural } from "./units.js";

const every = 5000; // ms between loads
const state = { filter: "", problems: false, auto: true };
const notice = byId("notice");
const box = byId("agents");

/** @type {any[]|null} */
let agents = null;
let skew = Number(document.documentElement.dataset.now) - Date.now();
const now = () => Date.now() + skew;

const loader = new Loader(() => {});

function readURL() {
  const q = new URLSearchParams(location.search);
  state.filter = q.get("filter") ?? "";
  state.problems = q.get("problems") === "1";
  state.auto = q.get("auto") !== "0";
  byId("filter").value = state.filter;
  byId("problems").checked = state.problems;
  byId("auto").checked = state.auto;
}

function writeURL() {
  const q = new URLSearchParams();
  if (state.filter) q.set("filter", state.filter);
  if (state.problems) q.set("problems", "1");
  if (!state.auto) q.set("auto", "0");
  history.replaceState(null, "", location.pathname + (q.size ? "?" + q : ""));
}

function load() {
  loader.forget();
  loader.need("agents", "agents", (signal) => get("/agents", {}, signal), (a) => {
    agents = a.values;
    draw();
  }, (err) => {
    if (!agents) failed(notice, err, load);
    else byId("counts").textContent = "Not up to date: " + err.message;
  });
}

/** draw writes the whole list, keeping the focus and open details where they are. */
function draw() {
  if (!agents) return;
  const focused = document.activeElement?.closest("[data-key]")?.dataset.key;
  const rows = agents.map((a) => ({ agent: a, targets: (a.targets ?? []).filter((t) => matchesFilter(t, a, state.filter) && (!state.problems || targetProblem(t))) }))
    .filter((r) => r.targets.length || (!state.problems && !state.filter) || (state.problems && agentProblem(r.agent) && matchesFilter({}, r.agent, state.filter)));
  showCounts();
  notice.hidden = rows.length > 0;
  if (!rows.length) nothing();
  box.replaceChildren(...rows.map((r) => section(r.agent, r.targets)));
  if (focused) box.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

function nothing() {
  if (!agents.length) {
    fill(notice, "No agent has reported yet", [
      "An agent runs on every host, finds Go services there and scrapes them. Start one and it shows up here within ten seconds:",
    ], [el("code", { class: "command" }, `agent -collector ${location.origin}`)]);
    return;
  }
  fill(notice, state.problems && !state.filter ? "No problems" : "Nothing matches", [
    state.problems && !state.filter ? "Every agent reports, every target that should be scraped is." : "No target matches the filter.",
  ], [el("button", { type: "button", click: () => {
    Object.assign(state, { filter: "", problems: false });
    writeURL();
    readURL();
    draw();
  } }, "Show everything")]);
}

function showCounts() {
  const all = agents.flatMap((a) => a.targets ?? []);
  const of = (s) => all.filter((t) => t.state === s).length;
  const parts = [plural(agents.length, "agent"), plural(all.length, "target"), `${of("up")} up`];
  for (const [s, text] of [["down", "down"], ["pending", "pending"], ["skipped", "skipped"]]) if (of(s)) parts.push(`${of(s)} ${text}`);
  const silent = agents.filter((a) => a.silent).length;
  if (silent) parts.push(plural(silent, "silent agent"));
  byId("counts").textContent = parts.join(" · ");
}

/** section is one agent with its targets. */
function section(a, targets) {
  const problem = agentProblem(a);
  return el("section", { class: "agent panel" },
    el("header", { class: "agent-head" },
      el("span", { class: "dot " + (a.silent ? "bad" : problem ? "warn" : "good"), "aria-hidden": "true" }),
      el("h2", {}, a.host || a.id),
      el("span", { class: "fine" }, ["agent " + (a.version || "of unknown version"), a.remote && "from " + a.remote, a.started && "up " + ago(Date.parse(a.started), now()).replace(" ago", "")].filter(Boolean).join(" · ")),
      el("span", { class: a.silent ? "state bad" : "fine", title: dateTime(Date.parse(a.last_seen), utc()) }, (a.silent ? "silent, last seen " : "seen ") + ago(Date.parse(a.last_seen), now())),
      skewText(a), spoolText(a.spool)),
    targets.length ? tableOf(a, targets) : el("p", { class: "fine pad" }, "No target" + (state.filter ? " that matches." : " found yet.")));
}

function skewText(a) {
  const s = a.skew_ns ?? 0;
  const bad = Math.abs(s) > 5e9;
  return el("span", { class: bad ? "state warn" : "fine", title: "The agent's clock compared with the collector's. Beyond 5 s the times of profiles are corrected." }, "clock " + (Math.abs(s) < 5e6 ? "exact" : (s > 0 ? "+" : "−") + format(Math.abs(s), "nanoseconds")));
}

function spoolText(spool) {
  if (!spool) return null;
  const out = [spool.profiles ? `${plural(spool.profiles, "profile")} waiting (${format(spool.bytes, "bytes")})` : "spool empty"];
  if (spool.oldest && spool.profiles) out.push("oldest " + ago(Date.parse(spool.oldest), now()));
  out.push(`${count(spool.shipped ?? 0)} shipped`);
  if (spool.dropped) out.push(`${count(spool.dropped)} dropped`);
  if (spool.refused) out.push(`${count(spool.refused)} refused`);
  const bad = spool.dropped || spool.refused || spool.last_error;
  return el("span", { class: bad ? "state warn" : "fine", title: spool.last_error || `Spool of ${format(spool.quota_bytes ?? 0, "bytes")}` },
    out.join(" · ") + (spool.last_error ? " · " + spool.last_error : ""));
}

function tableOf(a, targets) {
  return el("div", { class: "scroll", tabindex: -1 }, el("table", { class: "targets" },
    el("caption", { class: "offscreen" }, `Targets of ${a.host || a.id}`),
    el("thead", {}, el("tr", {}, ...["State", "Service", "Instance", "Release", "Found", "Last scrapes", ""].map((h) => el("th", { scope: "col" }, h || el("span", { class: "offscreen" }, "Actions"))))),
    el("tbody", {}, ...targets.map((t) => row(a, t)))));
}

const stateClass = { up: "good", down: "bad", pending: "", skipped: "off" };
/** stateOf shows a state; what a silent agent said last may no longer hold. */
function stateOf(a, t) {
  if (!a.silent) return el("span", { class: "state " + (stateClass[t.state] ?? "") }, t.state);
  return el("span", { class: "state off", title: "The agent is silent: this is what it said last" }, "was " + t.state);
}

const sources = { static: "in the config", file: "by a file", host: "on the host", self: "itself" };

function row(a, t) {
  const key = a.id + "/" + t.id;
  const link = "/explore?" + new URLSearchParams({ query: selector([{ name: "service", op: "=", value: t.service }, { name: "instance", op: "=", value: t.instance }]) });
  const canSnapshot = Boolean(a.capture?.mode) && t.state !== "skipped" && !a.silent && !(a.refuses ?? []).includes("snapshot");
  const canProfile = t.state !== "skipped" && !a.silent && !(a.refuses ?? []).includes("profile");
  const why = a.silent ? "The agent is silent" : t.state === "skipped" ? "Skipped targets are not scraped" : "The agent's configuration refuses it";
  return el("tr", { class: "t-" + t.state },
    el("td", { "data-th": "State" }, stateOf(a, t)),
    el("td", { "data-th": "Service", class: "strong" }, t.state === "skipped" || !t.service ? t.service || "–" : el("a", { href: link, "data-key": key + "/link" }, t.service)),
    el("td", { "data-th": "Instance", class: "mono", title: t.url || "" }, t.instance || "–"),
    el("td", { "data-th": "Release", class: "mono", title: t.build ? "build " + t.build : "" }, t.build ? el("a", { href: buildLink(t.build), "data-key": key + "/build" }, t.release || shortID(t.build)) : t.release || "–"),
    el("td", { "data-th": "Found" }, sources[t.source] ?? t.source),
    el("td", { "data-th": "Last scrapes", class: "scrapes" }, t.reason ? el("p", { class: t.state === "down" ? "reason bad" : "reason" }, t.reason) : null, ...scrapes(t), !t.reason && !t.scrapes?.length ? el("span", { class: "fine" }, "none yet") : null),
    el("td", { class: "acts" }, el("button", {
      type: "button", class: "small-act", "data-key": key + "/now", disabled: !canProfile, title: canProfile ? "Take one profile of this target now" : why, click: () => openProfile(a, t),
    }, icon("record"), "Profile now"), " ", canSnapshot ? el("button", {
      type: "button", class: "small-act", "data-key": key + "/snapshot", title: "Copy the memory of this target, which goes on", click: () => openSnapshot(a, t),
    }, icon("copy"), "Snapshot") : null));
}

/** scrapes are one chip per kind: age, duration, size, error. */
function scrapes(t) {
  return (t.scrapes ?? []).map((s) => {
    const at = Date.parse(s.at);
    const bad = Boolean(s.error);
    return el("span", {
      class: "scrape" + (bad ? " bad" : ""),
      title: `${dateTime(at, utc())}\n${plural(s.scrapes, "scrape")}, ${plural(s.failures, "failure")} since the agent started${s.next ? "\nnext " + ago(Date.parse(s.next), now()) : ""}`,
    },
    el("b", {}, s.kind), " ", el("span", {}, ago(at, now())), el("span", { class: "fine" }, ` ${format(s.duration_ns, "nanoseconds")}`),
    bad ? el("span", { class: "error" }, s.error) : el("span", { class: "fine" }, ` ${format(s.bytes, "bytes")}`));
  });
}

const dialog = byId("profile-dialog");
let chosen = null;
let running = null;

function openProfile(a, t) {
  chosen = { agent: a, target: t };
  byId("profile-what").textContent = `${t.service} at ${t.instance}, by the agent on ${a.host || a.id}`;
  const known = ["cpu", "heap", "goroutine", "mutex", "block"];
  const scraped = (t.scrapes ?? []).map((s) => s.kind);
  const kinds = scraped.length ? [...known.filter((k) => scraped.includes(k)), ...scraped.filter((k) => !known.includes(k))] : known;
  byId("profile-kind").replaceChildren(...kinds.map((k) => el("option", { value: k }, kindTitle(k))));
  showResult("", "");
  secondsField();
  dialog.showModal();
}

function secondsField() {
  byId("profile-seconds-field").hidden = byId("profile-kind").value !== "cpu";
}

function showResult(kind, ...content) {
  const p = byId("profile-result");
  p.className = "dialog-result " + kind;
  p.replaceChildren(...content);
}

async function takeProfile(e) {
  e.preventDefault();
  const { agent, target } = chosen;
  const kind = byId("profile-kind").value;
  const seconds = Number(byId("profile-seconds").value);
  const go = byId("profile-go");
  running = new AbortController();
  go.disabled = true;
  showResult("", kind === "cpu" ? `Profiling for ${seconds} s …` : "Taking the profile …");
  try {
    const done = await post("/targets/profile", { agent: agent.id, target: target.id, kind, seconds }, running.signal);
    showResult("good", "Done. ", el("a", { href: resultLink(done, target) }, "Open it in Explore"),
      done.profile_url ? " · " : "", done.profile_url ? el("a", { href: done.profile_url, download: "" }, "download pprof") : "");
  } catch (err) {
    if (err.name !== "AbortError") showResult("bad", sentence(err.message));
  } finally {
    go.disabled = false;
    running = null;
  }
}

/** resultLink shows the one profile: its target, and the seconds around its start. */
function resultLink(done, target) {
  const link = new URL(done.link || "/explore", location.origin);
  const start = Date.parse(done.start ?? "");
  // One snapshot is looked at as it is, not averaged over the window around it.
  if (isInstant(link.searchParams.get("type") ?? "")) link.searchParams.set("agg", "last");
  link.searchParams.set("query", selector([{ name: "service", op: "=", value: target.service }, { name: "instance", op: "=", value: target.instance }]));
  if (!Number.isNaN(start)) {
    link.searchParams.set("from", iso(start - 1000));
    link.searchParams.set("until", iso(start + 2000));
  }
  return link.pathname + link.search;
}

byId("profile-kind").addEventListener("change", secondsField);
byId("profile-form").addEventListener("submit", takeProfile);
byId("profile-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => running?.abort());

byId("filter").addEventListener("input", debounce(() => {
  state.filter = byId("filter").value;
  writeURL();
  draw();
}, 100));
for (const id of ["problems", "auto"]) {
  byId(id).addEventListener("change", (e) => {
    state[id] = e.target.checked;
    writeURL();
    draw();
  });
}
addEventListener("popstate", () => {
  readURL();
  draw();
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "/" || typing(e.target) || dialog.open) return;
  e.preventDefault();
  byId("filter").focus();
});
onZone(draw);
setInterval(() => state.auto && document.visibilityState === "visible" && !dialog.open && !snapshotOpen() && load(), every);
readURL();
load();
