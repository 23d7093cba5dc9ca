// What a function's name says: its package, its short form, whose code it is.
// Pure functions, no DOM.

// First path elements of the standard library's import paths.
const std = new Set(`archive arena bufio bytes cmp compress container context crypto database debug embed encoding
errors expvar flag fmt go hash html image index internal io iter log maps math mime net os path plugin reflect regexp
simd slices sort strconv strings structs sync syscall testing text time unicode unique unsafe vendor weak`.split(/\s+/));

/** @typedef {"root"|"runtime"|"std"|"native"|"main"|"module"} Owner */

/**
 * @typedef {Object} FunctionName
 * @property {string} pkg   import path, "" for native code and the root
 * @property {string} short last element of the package and the rest: tsdb.(*Head).Append
 * @property {string} local without the package: (*Head).Append
 * @property {Owner} owner
 */

/**
 * parseName splits the name of a function as Go's profiles spell it
 * (path/pkg.(*Type[go.shape.int]).Method.func1). Type arguments may hold
 * dots and slashes of their own, so only what is before the first bracket
 * counts.
 * @param {string} name
 * @returns {FunctionName}
 */
export function parseName(name) {
  let head = name;
  const cut = name.search(/[[(]/);
  if (cut >= 0) head = name.slice(0, cut);
  const slash = head.lastIndexOf("/");
  const dot = head.indexOf(".", slash + 1);
  if (name.includes("::") || dot < 0 || dot === 0 || /[ +]0x[0-9a-f]+$/.test(name)) {
    return { pkg: "", short: name, local: name, owner: "native" };
  }
  const pkg = head.slice(0, dot).replaceAll("%2e", ".");
  const short = name.slice(slash + 1).replaceAll("%2e", ".");
  const local = name.slice(dot + 1);
  return { pkg, short, local, owner: ownerOf(pkg, local) };
}

/** @param {string} pkg @param {string} local @returns {Owner} */
function ownerOf(pkg, local) {
  if (pkg === "main") return "main";
  if (pkg === "runtime/cgo" || local.startsWith("_Cfunc_") || local.startsWith("_cgo")) return "native";
  const first = pkg.split("/", 1)[0];
  if (first === "runtime" || first.startsWith("type:") || first === "gogo" || pkg === "internal/runtime" ||
    pkg.startsWith("internal/runtime/") || pkg === "internal/abi") return "runtime";
  if (std.has(first)) return "std";
  return "module";
}

/**
 * packagePattern is a regular expression for the functions of a package. Go
 * writes the dots of a path's last element as %2e in names.
 * @param {string} pkg import path
 */
export function packagePattern(pkg) {
  const escaped = pkg.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const slash = escaped.lastIndexOf("/") + 1;
  return "^" + escaped.slice(0, slash) + escaped.slice(slash).replaceAll("\\.", "(\\.|%2e)") + "\\.";
}

const cache = new Map();

/** nameOf is parseName with a memory, for code that asks per frame drawn. */
export function nameOf(name) {
  let n = cache.get(name);
  if (!n) {
    if (cache.size > 200000) cache.clear();
    cache.set(name, (n = parseName(name)));
  }
  return n;
}
