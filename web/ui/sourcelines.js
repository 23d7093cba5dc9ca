// What a function costs, as rows to list: the lines of its files and its
// instructions, and which of them belong together. Pure functions, no DOM.

/**
 * @typedef {Object} Row
 * @property {"file"|"gap"|"line"|"code"} kind
 * @property {string} key      of a line "file:line", of an instruction "0x" and its address; "" for the others
 * @property {number} self
 * @property {number} cum
 * @property {string} text     of a gap or a file what stands there
 * @property {string} number   line or address
 * @property {string} [title]
 * @property {string[]} [lines]  keys of the lines an instruction is of: the innermost and the function's own
 * @property {string} [place]    where an instruction's line is, if that is not what it was before
 * @property {string} [target]   function an instruction calls
 */

const tab = 4; // as in source.css

/** baseName is the last element of a path. */
const baseName = (path) => path.slice(path.lastIndexOf("/") + 1);

const mark = (kind, text, title = "") => ({ kind, key: "", self: 0, cum: 0, text, number: "", title });

/**
 * lineRows lists the lines of an answer of /api/v1/source, each file under its
 * path. Where there is text, lines left out show as a gap.
 * @returns {Row[]}
 */
export function lineRows(answer) {
  const out = [];
  for (const f of answer.files) {
    if (!f.lines.length) continue;
    out.push(mark("file", f.file, f.from ? `${f.file}\nText from ${f.from}` : f.file));
    let next = 0;
    for (const l of f.lines) {
      if (f.from && next && l.line > next) out.push(mark("gap", `${l.line - next} ${l.line - next === 1 ? "line" : "lines"} left out`));
      next = l.line + 1;
      out.push({ kind: "line", key: `${f.file}:${l.line}`, self: l.self, cum: l.cum, text: l.text ?? "", number: String(l.line) });
    }
  }
  return out;
}

/** codeRows lists the instructions of an answer of /api/v1/source. @returns {Row[]} */
export function codeRows(answer) {
  const out = [];
  let next = 0;
  let before = "";
  for (const ins of answer.instructions) {
    if (next && ins.address !== next) out.push(mark("gap", "code elsewhere"));
    next = ins.address + ins.bytes;
    const inner = `${ins.file ?? ""}:${ins.line ?? 0}`;
    const own = ins.own_file ? `${ins.own_file}:${ins.own_line}` : inner;
    const place = ins.line ? baseName(inner) + (ins.inlined ? ` in ${ins.inlined[0].slice(ins.inlined[0].lastIndexOf("/") + 1)}` : "") : "";
    out.push({
      kind: "code", key: "0x" + ins.address.toString(16), self: ins.self, cum: ins.cum, text: ins.text, number: ins.address.toString(16),
      lines: inner === own ? [own] : [own, inner], place: place === before ? "" : place, target: ins.target,
      title: [inner === ":0" ? "" : inner, ...(ins.inlined ?? []).map((f) => "inlined: " + f), inner === own ? "" : "from " + own].filter(Boolean).join("\n"),
    });
    before = place;
  }
  return out;
}

/**
 * related finds the rows that belong to the one of a key: the instructions of
 * a line, and the lines of an instruction.
 * @param {string} key @param {Row[]} code
 * @returns {{lines: Set<string>, code: Set<string>}} keys, the given one among them
 */
export function related(key, code) {
  if (!key) return { lines: new Set(), code: new Set() };
  if (key.startsWith("0x")) return { lines: new Set(code.find((r) => r.key === key)?.lines), code: new Set([key]) };
  return { lines: new Set([key]), code: new Set(code.filter((r) => r.lines?.includes(key)).map((r) => r.key)) };
}

/** columns is how wide a text is in characters, with its tabs. */
export function columns(text) {
  let n = 0;
  for (const c of text) n = c === "\t" ? n + tab - (n % tab) : n + 1;
  return n;
}

/** dearest is the index of the row that costs most, by what it does itself first; -1 if none costs anything. */
export function dearest(rows) {
  let best = -1;
  rows.forEach((r, i) => {
    if (r.cum <= 0 && r.self <= 0) return;
    const b = rows[best];
    if (!b || r.self > b.self || (r.self === b.self && r.cum > b.cum)) best = i;
  });
  return best;
}
