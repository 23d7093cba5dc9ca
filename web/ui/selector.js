// Prometheus selectors as the label filters write and read them. Pure
// functions, no DOM. The collector's parser is the judge; this one only says
// whether a selector can be shown as chips.

/**
 * @typedef {Object} Matcher
 * @property {string} name
 * @property {"="|"!="|"=~"|"!~"} op
 * @property {string} value
 */

/**
 * parseSelector reads {a="x", b=~"y"}.
 * @param {string} text
 * @returns {Matcher[]|null} null if it is anything else than plain matchers
 */
export function parseSelector(text) {
  let rest = text.trim();
  if (rest === "") return [];
  if (!rest.startsWith("{") || !rest.endsWith("}")) return null;
  rest = rest.slice(1, -1).trim();
  const out = [];
  const one = /^(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"\\]|\\.)*)")\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)/;
  while (rest !== "") {
    const m = one.exec(rest);
    if (!m) return null;
    const name = m[1] ?? unquote(m[2]);
    const value = unquote(m[4]);
    if (name === null || value === null) return null;
    out.push({ name, op: /** @type {Matcher["op"]} */ (m[3]), value });
    rest = rest.slice(m[0].length).trim();
  }
  return out;
}

/** @param {string} s @returns {string|null} */
function unquote(s) {
  try {
    return JSON.parse('"' + s + '"');
  } catch {
    return null;
  }
}

/** quote writes a string as Go and JSON both read it. */
const quote = (s) => JSON.stringify(s);

/** matcher writes one matcher. @param {Matcher} m */
export function matcher(m) {
  const name = /^[A-Za-z_][A-Za-z0-9_]*$/.test(m.name) ? m.name : quote(m.name);
  return name + m.op + quote(m.value);
}

/** selector writes matchers; "" for none. @param {Matcher[]} ms */
export function selector(ms) {
  return ms.length ? "{" + ms.map(matcher).join(", ") + "}" : "";
}

/**
 * serviceOf gives the service a selector names with =, "" for the whole fleet.
 * @param {Matcher[]|null} ms
 */
export function serviceOf(ms) {
  return ms?.find((m) => m.name === "service" && m.op === "=")?.value ?? "";
}

/**
 * withMatcher replaces the matcher of m's name and op "=", or adds it; an
 * empty value removes it.
 * @param {Matcher[]} ms @param {string} name @param {string} value
 */
export function withEqual(ms, name, value) {
  const i = ms.findIndex((x) => x.name === name && x.op === "=");
  const rest = ms.filter((_, j) => j !== i);
  if (value === "") return rest;
  rest.splice(i < 0 ? (name === "service" ? 0 : rest.length) : i, 0, { name, op: "=", value });
  return rest;
}
