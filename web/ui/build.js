// The page of one build: what it is, where it runs, what is stored of it.

import { get, url } from "./api.js";
import { builtModule, codeOf, goVersion, moduleText, quoteArg, seen, shortID } from "./buildwords.js";
import { command, pushCommand, signed } from "./command.js";
import { byId, copy, debounce, el, icon, onZone, typing, utc } from "./dom.js";
import { Loader } from "./loader.js";
import { failed, fill } from "./notice.js";
import { selector } from "./selector.js";
import { iso } from "./times.js";
import { ago, dateTime, format, plural } from "./units.js";

const id = byId("build").dataset.id;
const notice = byId("notice");
const skew = Number(document.documentElement.dataset.now) - Date.now();
const now = () => Date.now() + skew;
const loader = new Loader((busy) => byId("parts").setAttribute("aria-busy", String(busy)));

/** @type {import("./buildwords.js").Build|null} */
let build = null;
/** @type {string[]} */
let releases = [];
let filter = "";

function load() {
  loader.need("build", "build", (signal) => get("/builds", { id, detail: true }, signal), (a) => {
    // A binary may be found by several ids, and its page by each.
    build = a.values.find((b) => b.id === id) ?? a.values[0] ?? null;
    draw();
    if (build?.services.length) askReleases();
  }, (err) => {
    if (build) return;
    byId("words").textContent = "";
    failed(notice, err, load);
  });
}

/** askReleases asks what releases the build's data is of: labels may say other than the build. */
function askReleases() {
  const at = seen(build);
  const q = { query: selector([{ name: "build", op: "=", value: build.id }]), from: iso(at.first), until: iso(at.last + 1000) };
  loader.need("releases", build.id, (signal) => get("/labels/release/values", q, signal), (a) => {
    releases = a.values.filter((r) => !build.id.startsWith(r)); // without a release it is the id
    about();
  }, () => {}); // the page is good without
}

function draw() {
  byId("parts").hidden = !build;
  notice.hidden = Boolean(build);
  if (!build) {
    byId("words").textContent = "";
    fill(notice, "This build is not known here", ["No data came of it, no agent reported it, and no binary of it is stored. If you have its binary, push it:"],
      [command(pushCommand(), "push binaries"), el("a", { class: "button", href: "/builds" }, "All builds")]);
    return;
  }
  byId("short").textContent = shortID(build.id);
  words();
  about();
  services();
  binaries();
  open();
  vulnerabilities();
  settings();
  modules();
}

function words() {
  const word = codeOf(build);
  byId("words").replaceChildren(el("span", { class: "state " + word.kind }, word.word),
    build.conflict ? el("span", { class: "state bad" }, "conflict") : "", build.modified ? el("span", { class: "state warn" }, "dirty") : "",
    build.fetching ? el("span", { class: "state" }, "being fetched from another server") : "", el("span", { class: "fine" }, word.says));
}

/** copied is a long text with a button that copies it. */
const copied = (text, what) => el("span", { class: "copied" }, el("span", { class: "mono" }, text), el("button", { type: "button", class: "quiet tiny", "aria-label": "Copy " + what, title: "Copy " + what, click: () => copy(text, what) }, icon("copy")));

function about() {
  const gnu = build.binaries.find((b) => b.gnu_build_id)?.gnu_build_id;
  const commit = Date.parse(build.time ?? "");
  const facts = [
    ["Build id", [copied(build.id, "the build id")]],
    gnu && gnu !== build.id && ["GNU build id", [copied(gnu, "the GNU build id")]],
    build.go_build_id && ["Go build id", [copied(build.go_build_id, "the Go build id")]],
    build.path && ["Program", [el("span", { class: "mono" }, build.path)]],
    (build.module || build.version) && ["Module", [el("span", { class: "mono" }, moduleText({ path: build.module ?? "", version: build.version }))]],
    releases.length > 0 && ["Release", [el("span", { class: "mono" }, releases.join(", "))]],
    build.revision && ["Revision", [copied(build.revision, "the revision"), build.modified ? el("span", { class: "state warn", title: "Built with changes that were not committed" }, "dirty") : null]],
    !Number.isNaN(commit) && ["Committed", [when(commit)]],
    build.go_version && ["Go", [el("span", { class: "mono" }, goVersion(build)), build.go_version !== goVersion(build) ? el("span", { class: "fine" }, build.go_version.slice(goVersion(build).length)) : null]],
    build.binaries[0]?.arch && ["Architecture", [el("span", { class: "mono" }, build.binaries[0].arch)]],
  ].filter(Boolean);
  const only = facts.length === 1 ? el("p", { class: "fine pad" }, "Nothing but the id is known. Go programs say the rest of themselves, once a binary is stored or an agent of their host reports them.") : null;
  byId("about").replaceChildren(...facts.flatMap(([name, content]) => [el("dt", {}, name), el("dd", {}, ...content)]));
  byId("about").parentElement.querySelector("p")?.remove();
  if (only) byId("about").after(only);
}

const when = (ms) => el("time", { datetime: new Date(ms).toISOString(), title: ago(ms, now()) }, dateTime(ms, utc(), false));

/** table makes one; a row is a list of cells, the first its head. */
function table(name, caption, heads, rows, classes = []) {
  const cell = (c, i) => el(i ? "td" : "th", { scope: i ? null : "row", class: classes[i], "data-th": typeof heads[i] === "string" ? heads[i] : null }, ...[c].flat());
  return el("table", { class: "rows " + name }, el("caption", { class: "offscreen" }, caption),
    el("thead", {}, el("tr", {}, ...heads.map((h, i) => el("th", { scope: "col", class: classes[i] === "num" ? "num" : null }, h)))),
    el("tbody", {}, ...rows.map((r) => el("tr", {}, ...r.map(cell)))));
}

const hidden = (text) => el("span", { class: "offscreen" }, text);

function services() {
  byId("services").replaceChildren(build.services.length
    ? table("services cards", "Services that run it", ["Service", "Runs now", "First seen", "Last seen", hidden("Profiles")], build.services.map((s) => [
      s.service, runs(s.service), when(Date.parse(s.first)), when(Date.parse(s.last)), el("a", { href: exploreLink(s), "aria-label": `Explore profiles of ${s.service} by this build` }, "Explore"),
    ]))
    : el("p", { class: "fine pad" }, "No data came of it yet."));
}

/** runs says where a service runs the build now, as agents report it. */
function runs(service) {
  const at = (build.running ?? []).filter((r) => r.service === service);
  if (!at.length) return el("span", { class: "fine" }, "not that an agent says");
  const where = at.map((r) => r.instance + (r.host && !r.instance.startsWith(r.host) ? ` on ${r.host}` : ""));
  return el("span", { title: where.join("\n") }, at.length <= 3 ? where.join(", ") : plural(at.length, "instance"));
}

/** exploreLink shows a service's last hour of this build. */
function exploreLink(s) {
  const [first, last] = [Date.parse(s.first), Date.parse(s.last)];
  const q = { query: selector([{ name: "service", op: "=", value: s.service }, { name: "build", op: "=", value: build.id }]) };
  if (last < now() - 50 * 60e3) Object.assign(q, { from: iso(Math.max(first, last - 3600e3) - 1000), until: iso(last + 60e3) });
  return url("/explore", q);
}

const kinds = { executable: "program", pie: "program (PIE)", library: "library", debug: "debug file", source: "source files" };
const trusts = {
  exact: ["exact", "good"],
  names: ["names only", "warn"],
  none: ["unproven", "off"],
};

function binaries() {
  const box = byId("binaries");
  if (!build.binaries.length) {
    box.replaceChildren(el("div", { class: "pad steps" }, el("p", {}, "None. Push it from where the program was built, before it is stripped if you can:"), command(pushCommand(), "push binaries")));
    return;
  }
  box.replaceChildren(
    build.conflict ? el("p", { class: "pad conflict" }, icon("warn"), "Binaries of this id differ in their code: which of them ran cannot be told. Programs that are linked with a fixed build id (-B) do that.") : "",
    el("div", { class: "scroll", tabindex: -1 }, table("binaries cards", "Stored binaries", ["What", "Size", "In it", "Trust", "Uploaded", "SHA-256"], build.binaries.map((b) => [
      kinds[b.kind] ?? b.kind,
      el("span", { title: `${format(b.stored_bytes, "bytes")} on the collector's disk` }, format(b.bytes, "bytes")),
      contents(b),
      trust(b),
      [when(Date.parse(b.uploaded)), el("span", { class: "fine" }, " by " + (b.by || "somebody") + ({ agent: ", an agent", debuginfod: ", another server" }[b.source] ?? ""))],
      el("span", { class: "sha", title: b.sha256 }, copied(b.sha256, "the SHA-256")),
    ]), ["", "num"])),
    el("p", { class: "downloads pad" }, ...downloads()));
}

function contents(b) {
  const has = [b.dwarf && "debug info", b.pclntab && "Go functions and lines", b.symtab && "symbols"].filter(Boolean);
  return has.length ? has.join(", ") : el("span", { class: "fine" }, "no names");
}

function trust(b) {
  const [word, kind] = b.conflict ? ["conflict", "bad"] : trusts[b.trust] ?? ["unknown", "off"];
  return [el("span", { class: "state " + kind }, word), el("span", { class: "fine why" }, b.why ?? "")];
}

const programs = () => build.binaries.filter((b) => b.kind !== "debug");
const file = () => "/api/v1/builds/" + encodeURIComponent(build.id);

function downloads() {
  const program = programs()[0];
  const debug = build.binaries.find((b) => b.dwarf);
  return [
    program && el("a", { class: "button", href: file(), download: "" }, icon("export"), `Program (${format(program.bytes, "bytes")})`),
    debug && debug !== program && el("a", { class: "button", href: file() + "?debug=true", download: "" }, icon("export"), `Debug information (${format(debug.bytes, "bytes")})`),
  ].filter(Boolean);
}

/** open says how debuggers get at what is stored. */
function open() {
  const program = programs()[0];
  byId("open-part").hidden = !program;
  if (!program) return;
  const name = quoteArg((build.path || build.module || "program").split("/").pop());
  const curl = `curl -fsS${signed ? ' -H "Authorization: Bearer $TOKEN"' : ""} -o ${name} ${quoteArg(location.origin + file())} && chmod +x ${name}`;
  const steps = [step("The program that ran, for example beside a core dump:", curl, "download the program")];
  if (program.gnu_build_id) {
    const server = signed ? `${location.protocol}//inquest:$TOKEN@${location.host}` : location.origin;
    steps.push(
      step("Delve; where the program is stripped, debuginfod-find (of elfutils) fetches its debug information:", `DEBUGINFOD_URLS=${server} dlv core ${name} CORE`, "open it with delve"),
      step("gdb fetches it by itself:", `DEBUGINFOD_URLS=${server} gdb -iex 'set debuginfod enabled on' ${name} CORE`, "open it with gdb"),
    );
  } else {
    steps.push(el("p", { class: "fine" }, "It has no GNU build id, so debuginfod clients cannot ask for it."));
  }
  if (signed) steps.push(el("p", { class: "fine" }, "This collector asks for tokens: put one with the scope read into TOKEN."));
  byId("open").replaceChildren(...steps);
}

const step = (text, line, what) => el("div", { class: "step" }, el("p", {}, text), command(line, what));

/** vulnerabilities are those of the modules; whether the program calls what is vulnerable is not known. */
function vulnerabilities() {
  const all = build.vulnerabilities ?? [];
  byId("vulnerabilities-part").hidden = build.vulnerability_count === undefined;
  byId("vulnerabilities-count").textContent = all.length ? "of its modules; whether it calls what is vulnerable is another question" : "";
  byId("vulnerabilities").replaceChildren(all.length
    ? table("vulnerabilities cards", "Known vulnerabilities", ["Id", "Module", "In this build", "Fixed in", "Summary"], all.map((v) => [
      v.url?.startsWith("https://") ? el("a", { href: v.url, rel: "noreferrer" }, v.id) : v.id,
      v.module, v.version, v.fixed || el("span", { class: "fine" }, "not yet"), [v.summary ?? "", v.aliases?.length ? el("div", { class: "fine" }, v.aliases.join(", ")) : null],
    ]), ["mono", "mono", "mono", "mono"])
    : el("p", { class: "fine pad" }, "None is known of its modules."));
}

function settings() {
  const all = Object.entries(build.settings ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  byId("settings").replaceChildren(
    all.length ? table("settings", "Build settings", ["Setting", "Value"], all.map(([k, v]) => [k, v || el("span", { class: "fine" }, "empty")]), ["mono", "mono"]) : el("p", { class: "fine pad" }, "Not known."),
    all.length && !build.settings["-pgo"] ? el("p", { class: "fine pad" }, "It was built without a profile (-pgo).") : "");
}

function modules() {
  const all = build.modules ?? [];
  const want = filter.toLowerCase();
  const some = all.filter((m) => (moduleText(m) + " " + moduleText(builtModule(m))).toLowerCase().includes(want));
  const replaced = all.filter((m) => m.replace).length;
  byId("modules-search").hidden = all.length < 2;
  byId("modules-count").textContent = all.length ? [want ? `${some.length} of ${all.length}` : plural(all.length, "module"), replaced && `${replaced} replaced`].filter(Boolean).join(" · ") : "";
  byId("modules").replaceChildren(some.length
    ? table("modules", "Modules", ["Path", "Version"], some.map((m) => [
      [m.path, m.replace ? el("div", { class: "replaced" }, el("span", { class: "state warn" }, "replaced"), " by ", m.replace.path === m.path ? "another version" : m.replace.path) : null],
      m.replace ? [el("s", {}, m.version ?? ""), el("div", {}, m.replace.version || el("span", { class: "fine" }, "a directory"))] : m.version || el("span", { class: "fine" }, "not known"),
    ]), ["mono", "mono"])
    : el("p", { class: "fine pad" }, all.length ? "No module matches." : build.go_version ? "None but its own and the standard library." : "Not known."));
}

function readURL() {
  filter = byId("module").value = new URLSearchParams(location.search).get("module") ?? "";
}

byId("module").addEventListener("input", debounce(() => {
  filter = byId("module").value.trim();
  history.replaceState(null, "", location.pathname + (filter ? "?" + new URLSearchParams({ module: filter }) : ""));
  modules();
}, 100));
addEventListener("popstate", () => {
  readURL();
  draw();
});
document.addEventListener("keydown", (e) => {
  if (e.key !== "/" || typing(e.target) || byId("modules-search").hidden) return;
  e.preventDefault();
  byId("module").focus();
});
onZone(() => build && draw());
// What another server is asked for comes by itself.
setInterval(() => {
  if (!build?.fetching || document.visibilityState !== "visible") return;
  loader.forget();
  load();
}, 10e3);
readURL();
load();
