// What is said of builds: names, words for what is stored of them, how they
// are ordered and filtered. Pure functions, no DOM.

/**
 * @typedef {Object} Build a row of /api/v1/builds
 * @property {string} id
 * @property {string} [go_build_id]
 * @property {string} [go_version]
 * @property {string} [path]     of the main package
 * @property {string} [module]
 * @property {string} [version]  of the main module
 * @property {string} [revision]
 * @property {string} [time]     of the commit, RFC 3339
 * @property {boolean} [modified]
 * @property {Record<string, string>} [settings]  with detail
 * @property {Module[]} [modules]                 with detail
 * @property {number} module_count
 * @property {"missing"|"names"|"dwarf"|"debug"} code
 * @property {boolean} [conflict]
 * @property {boolean} [fetching]
 * @property {{service: string, first: string, last: string}[]} services
 * @property {any[]} binaries
 *
 * @typedef {{path: string, version?: string, replace?: Module}} Module
 */

/** codes are what can be stored of a build: word, class of its colour, what it is good for. Best first. */
export const codes = {
  dwarf: { word: "debug info", kind: "good", says: "The program is stored with its debug information: functions, lines, variables in a debugger." },
  names: { word: "names only", kind: "warn", says: "The program is stored without debug information. Go code has its functions and lines all the same; native code may have no names, and a debugger shows no variables." },
  debug: { word: "debug file only", kind: "warn", says: "Only a file with debug information is stored, not the program itself." },
  missing: { word: "missing", kind: "bad", says: "No binary of this build is stored: addresses that came without names stay addresses, and debuggers cannot fetch it." },
};

/** codeOf is the entry of codes for a build. @param {Build} b */
export const codeOf = (b) => codes[b.code] ?? { word: b.code, kind: "", says: "" };

/** shortID cuts an id to what people compare; that of a Go build id keeps its mark. */
export const shortID = (id) => id.slice(0, id.startsWith("go-") ? 15 : 12);

/** buildLink is the page of a build. */
export const buildLink = (id) => "/builds/" + encodeURIComponent(id);

/** goVersion is the version of Go without the experiments that follow it. @param {Build} b */
export const goVersion = (b) => (b.go_version ?? "").split(" ")[0];

/** builtModule is what was really built: the replacement, if there is one. @param {Module} m */
export const builtModule = (m) => m.replace ?? m;

/** moduleText is a module as go.mod writes it. @param {Module} m */
export const moduleText = (m) => (m.path + " " + (m.version ?? "")).trim();

/** quoteArg writes an argument for a shell. */
export const quoteArg = (s) => (/^[\w@%+=:,./-]+$/.test(s) ? s : "'" + s.replaceAll("'", "'\\''") + "'");

/** seen is when data of a build came first and last, ms; NaN if none did. @param {Build} b */
export function seen(b) {
  const first = b.services.map((s) => Date.parse(s.first));
  const last = b.services.map((s) => Date.parse(s.last));
  return { first: first.length ? Math.min(...first) : NaN, last: last.length ? Math.max(...last) : NaN };
}

/** names are the services a build runs as. @param {Build} b */
export const names = (b) => b.services.map((s) => s.service);

const order = Object.keys(codes);
const bytes = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const text = new Intl.Collator("en", { numeric: true }).compare;

/** compareGo orders versions of Go: pre-releases come before their release. */
export function compareGo(a, b) {
  const of = (v) => /^go(\d+)\.(\d+)(?:\.(\d+))?(?:(beta|rc)(\d+))?/.exec(v)?.slice(1);
  const [x, y] = [of(a), of(b)];
  if (!x || !y) return Number(Boolean(x)) - Number(Boolean(y)) || text(a, b);
  const nums = (p) => [Number(p[0]), Number(p[1]), Number(p[2] ?? 0), { beta: 0, rc: 1 }[p[3]] ?? 2, Number(p[4] ?? 0)];
  const [m, n] = [nums(x), nums(y)];
  const i = m.findIndex((v, j) => v !== n[j]);
  return i < 0 ? 0 : m[i] - n[i];
}

/** columns are what the table can be ordered by: the key of a build, and how two compare. */
const columns = {
  build: [(b) => b.id, bytes],
  service: [(b) => names(b).join(" "), text],
  version: [(b) => b.version ?? "", text],
  revision: [(b) => b.revision ?? "", bytes],
  go: [goVersion, compareGo],
  modules: [(b) => b.module_count || NaN, (x, y) => x - y],
  first: [(b) => seen(b).first, (x, y) => x - y],
  last: [(b) => seen(b).last, (x, y) => x - y],
  code: [(b) => order.indexOf(b.code), (x, y) => x - y],
};

/** sortable says whether a column's name is one; "-" before it is the other direction. */
export const sortable = (sort) => Object.hasOwn(columns, sort.replace(/^-/, ""));

/**
 * sorted orders builds by a column; those that say nothing there come last.
 * @param {Build[]} builds @param {string} sort
 */
export function sorted(builds, sort) {
  const sign = sort.startsWith("-") ? -1 : 1;
  const [key, compare] = columns[sort.replace(/^-/, "")];
  const none = (k) => k === "" || Number.isNaN(k);
  return builds.map((b) => ({ b, k: key(b) }))
    .sort((x, y) => Number(none(x.k)) - Number(none(y.k)) || (none(x.k) ? 0 : sign * compare(x.k, y.k)) || bytes(x.b.id, y.b.id))
    .map((x) => x.b);
}

/**
 * shares counts builds by a word, in the order words come in.
 * @param {Build[]} builds @param {(b: Build) => string} word @param {(a: string, b: string) => number} compare
 * @returns {{name: string, count: number}[]}
 */
export function shares(builds, word, compare) {
  const counts = new Map();
  for (const b of builds) counts.set(word(b), (counts.get(word(b)) ?? 0) + 1);
  return [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => compare(a.name, b.name));
}

const mostGo = 6; // versions shown each by itself

/**
 * goShares counts builds by version of Go, the newest first; where these are
 * many, by 1.26 instead of 1.26.3.
 * @param {Build[]} builds
 */
export function goShares(builds) {
  const newest = (a, b) => compareGo(b, a);
  const each = shares(builds, goVersion, newest);
  return each.length <= mostGo ? each : shares(builds, (b) => /^go\d+\.\d+/.exec(goVersion(b))?.[0] ?? goVersion(b), newest);
}

/** byCode orders codes, the best first. */
export const byCode = (a, b) => order.indexOf(a) - order.indexOf(b);
