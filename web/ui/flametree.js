// Call trees of an answer and what is made of them before drawing: focus,
// hide, sandwich, search, layout. Pure functions on columns, no DOM.

import { hash } from "./colour.js";

/**
 * Columns of a call tree: node 0 is the root, parents come before children.
 * @typedef {Object} Tree
 * @property {string[]} names
 * @property {Uint32Array|number[]} name   per node: index into names
 * @property {Int32Array|number[]} parent  per node; -1 for the root
 * @property {Float64Array|number[]} self  per node, in the answer's unit
 * @property {Float64Array|number[]} cum   per node: self and that of everything below
 */

/** treeOf reads the answer of /api/v1/flamegraph. @returns {Tree} */
export function treeOf(answer) {
  const n = answer.nodes;
  return {
    names: answer.names,
    name: Uint32Array.from(n.name),
    parent: Int32Array.from(n.parent),
    self: Float64Array.from(n.self),
    cum: Float64Array.from(n.cum),
  };
}

/** Merger adds paths into a new tree, each distinct path once. */
class Merger {
  /** @param {string[]} names @param {number} root name of the root */
  constructor(names, root) {
    this.names = names;
    this.name = [root];
    this.parent = [-1];
    this.self = [0];
    this.cum = [0];
    /** @type {Map<number, number>} (parent, name) → node */
    this.index = new Map();
  }

  /** child finds or makes the node of a name under a parent. */
  child(parent, name) {
    const key = parent * this.names.length + name;
    let node = this.index.get(key);
    if (node === undefined) {
      node = this.name.length;
      this.index.set(key, node);
      this.name.push(name);
      this.parent.push(parent);
      this.self.push(0);
      this.cum.push(0);
    }
    return node;
  }

  /** @returns {Tree} */
  tree() {
    const { names, name, parent, self, cum } = this;
    return { names, name: Uint32Array.from(name), parent: Int32Array.from(parent), self: Float64Array.from(self), cum: Float64Array.from(cum) };
  }
}

/**
 * outermost marks the nodes of a name that have none of the same name above
 * them, so that recursion counts once.
 * @param {Tree} t @param {(name: number) => boolean} is
 * @returns {{top: Uint8Array, under: Uint8Array}} under: at or below one
 */
export function outermost(t, is) {
  const n = t.name.length;
  const top = new Uint8Array(n);
  const under = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const above = i > 0 && under[t.parent[i]] === 1;
    const own = i > 0 && is(t.name[i]);
    under[i] = above || own ? 1 : 0;
    top[i] = own && !above ? 1 : 0;
  }
  return { top, under };
}

/**
 * focus keeps only the stacks that pass through a name.
 * @param {Tree} t @param {string} name @returns {Tree}
 */
export function focus(t, name) {
  const want = t.names.indexOf(name);
  const { top, under } = outermost(t, (x) => x === want);
  const n = t.name.length;
  const cum = new Float64Array(n);
  const keep = new Uint8Array(n);
  for (let i = n - 1; i >= 0; i--) {
    if (under[i]) {
      keep[i] = 1;
      cum[i] = t.cum[i];
    }
    if (i > 0 && (top[i] || (keep[i] && !under[i]))) {
      keep[t.parent[i]] = 1;
      if (!under[t.parent[i]]) cum[t.parent[i]] += cum[i];
    }
  }
  return select(t, keep, (i) => (under[i] ? t.self[i] : 0), cum);
}

/** select copies the kept nodes; every kept node's parent must be kept. */
function select(t, keep, self, cum) {
  const at = new Int32Array(t.name.length).fill(-1);
  const out = { names: t.names, name: [], parent: [], self: [], cum: [] };
  for (let i = 0; i < at.length; i++) {
    if (!keep[i] && i > 0) continue;
    at[i] = out.name.length;
    out.name.push(t.name[i]);
    out.parent.push(i === 0 ? -1 : at[t.parent[i]]);
    out.self.push(self(i));
    out.cum.push(cum[i]);
  }
  return out;
}

/**
 * hide takes the frames of a name out: what they called moves to their
 * callers, and so does what they did themselves.
 * @param {Tree} t @param {string} name @returns {Tree}
 */
export function hide(t, name) {
  const gone = t.names.indexOf(name);
  const m = new Merger(t.names, t.name[0]);
  const at = new Int32Array(t.name.length);
  for (let i = 0; i < at.length; i++) {
    if (i > 0) at[i] = t.name[i] === gone ? at[t.parent[i]] : m.child(at[t.parent[i]], t.name[i]);
    m.self[at[i]] += t.self[i];
    if (i === 0 || t.name[i] !== gone) m.cum[at[i]] += t.cum[i];
  }
  // Merged siblings can come to stand under a node made later than their
  // first; the order parent before child holds by construction.
  return m.tree();
}

/**
 * sandwich gives what calls a function and what it calls, over all its
 * outermost occurrences. Both trees have the function as their root.
 * @param {Tree} t @param {string} name
 * @returns {{callers: Tree, callees: Tree, total: number}|null} null if it does not occur
 */
export function sandwich(t, name) {
  const want = t.names.indexOf(name);
  if (want < 0) return null;
  const { top, under } = outermost(t, (x) => x === want);
  const down = new Merger(t.names, want);
  const up = new Merger(t.names, want);
  const at = new Int32Array(t.name.length);
  let total = 0;
  for (let i = 1; i < at.length; i++) {
    if (!under[i]) continue;
    at[i] = top[i] ? 0 : down.child(at[t.parent[i]], t.name[i]);
    down.self[at[i]] += t.self[i];
    down.cum[at[i]] += t.cum[i];
    if (!top[i]) continue;
    total += t.cum[i];
    let node = 0;
    up.cum[0] += t.cum[i];
    for (let p = t.parent[i]; p > 0; p = t.parent[p]) {
      node = up.child(node, t.name[p]);
      up.cum[node] += t.cum[i];
    }
    up.self[node] += t.cum[i];
  }
  return total === 0 && !top.includes(1) ? null : { callers: up.tree(), callees: down.tree(), total };
}

/**
 * Layout is a tree placed on rows. Coordinates x and w are parts of the
 * whole: the root is 0…1. Depth of the first tree counts from 0 down; callers
 * of a sandwich have negative depths.
 * @typedef {Object} Layout
 * @property {string[]} names
 * @property {number} size         nodes
 * @property {Uint32Array} name
 * @property {Int32Array} parent   towards the root (depth 0); -1 for it
 * @property {Int16Array} depth
 * @property {Float64Array} x
 * @property {Float64Array} w
 * @property {Float64Array} self
 * @property {Float64Array} cum
 * @property {number} minDepth
 * @property {number} maxDepth
 * @property {boolean} sandwich    node 0 is a function, not the whole
 * @property {Int32Array} order    nodes sorted by (depth, x)
 * @property {Int32Array} rowStart order[rowStart[d-minDepth] … rowStart[d-minDepth+1]) is the row of depth d
 * @property {Int32Array} rank     position of a node in order
 */

/**
 * layout places a tree, and the callers above it if given. Children stand in
 * order of descending weight from their parent's left edge.
 * @param {Tree} tree @param {Tree} [callers] its root is the same as tree's
 * @returns {Layout}
 */
export function layout(tree, callers) {
  const n1 = tree.name.length;
  const size = n1 + (callers ? callers.name.length - 1 : 0);
  const L = {
    names: tree.names, size,
    name: new Uint32Array(size), parent: new Int32Array(size), depth: new Int16Array(size),
    x: new Float64Array(size), w: new Float64Array(size), self: new Float64Array(size), cum: new Float64Array(size),
    minDepth: 0, maxDepth: 0, sandwich: callers !== undefined, order: new Int32Array(size), rowStart: new Int32Array(0), rank: new Int32Array(size),
  };
  place(L, tree, 0, 1);
  if (callers) place(L, callers, n1 - 1, -1);
  rows(L);
  return L;
}

/** place copies a tree into L at an offset (node 0 stays node 0) and gives its nodes their places. */
function place(L, t, offset, dir) {
  const n = t.name.length;
  const total = t.cum[0] || 1;
  const id = (i) => (i === 0 ? 0 : i + offset);
  if (dir === 1) {
    L.name[0] = t.name[0];
    L.parent[0] = -1;
    L.w[0] = 1;
    L.self[0] = t.self[0];
    L.cum[0] = t.cum[0];
  }
  // Siblings by descending weight; the API sends them so already, merged trees do not.
  const next = new Float64Array(n);
  for (const i of siblingOrder(t)) {
    const node = id(i);
    const p = t.parent[i];
    const parent = id(p);
    L.name[node] = t.name[i];
    L.parent[node] = parent;
    L.depth[node] = L.depth[parent] + dir;
    L.self[node] = t.self[i];
    L.cum[node] = t.cum[i];
    L.w[node] = Math.max(0, t.cum[i]) / total;
    L.x[node] = L.x[parent] + next[p];
    next[p] += L.w[node];
    if (L.depth[node] > L.maxDepth) L.maxDepth = L.depth[node];
    if (L.depth[node] < L.minDepth) L.minDepth = L.depth[node];
  }
}

/** siblingOrder gives all nodes but the root, parents first and siblings by descending weight. */
function siblingOrder(t) {
  const n = t.name.length;
  const start = new Int32Array(n + 1);
  for (let i = 1; i < n; i++) start[t.parent[i] + 1]++;
  for (let i = 0; i < n; i++) start[i + 1] += start[i];
  const kids = new Int32Array(Math.max(0, n - 1));
  const fill = start.slice(0, n);
  for (let i = 1; i < n; i++) kids[fill[t.parent[i]]++] = i;
  for (let p = 0; p < n; p++) {
    if (start[p + 1] - start[p] > 1) {
      kids.subarray(start[p], start[p + 1]).sort((a, b) => t.cum[b] - t.cum[a] || a - b);
    }
  }
  const out = new Int32Array(kids.length);
  let write = 0;
  const queue = [0];
  for (let head = 0; head < queue.length; head++) {
    const p = queue[head];
    for (let k = start[p]; k < start[p + 1]; k++) {
      out[write++] = kids[k];
      queue.push(kids[k]);
    }
  }
  return out;
}

/** rows sorts the nodes by (depth, x). */
function rows(L) {
  const count = L.maxDepth - L.minDepth + 1;
  const start = new Int32Array(count + 1);
  for (let i = 0; i < L.size; i++) start[L.depth[i] - L.minDepth + 1]++;
  for (let d = 0; d < count; d++) start[d + 1] += start[d];
  const fill = start.slice(0, count);
  for (let i = 0; i < L.size; i++) L.order[fill[L.depth[i] - L.minDepth]++] = i;
  for (let d = 0; d < count; d++) {
    L.order.subarray(start[d], start[d + 1]).sort((a, b) => L.x[a] - L.x[b] || a - b);
  }
  for (let i = 0; i < L.size; i++) L.rank[L.order[i]] = i;
  L.rowStart = start;
}

/**
 * pathKey names a node by the functions from the root to it, so that a link
 * finds it again in another answer.
 * @param {Layout} L @param {number} node @returns {string}
 */
export function pathKey(L, node) {
  let a = 17, b = 31;
  const path = [];
  for (let i = node; i > 0; i = L.parent[i]) path.push(i);
  for (let k = path.length - 1; k >= 0; k--) [a, b] = step(a, b, hash(L.names[L.name[path[k]]]));
  return (a >>> 0).toString(36) + "-" + (b >>> 0).toString(36);
}

const step = (a, b, h) => [Math.imul(a ^ h, 0x9e3779b1) ^ (a >>> 15), Math.imul(b + h, 0x85ebca6b) ^ (b >>> 13)];

/**
 * findPath finds the node of a pathKey, -1 if there is none.
 * @param {Layout} L @param {string} key
 */
export function findPath(L, key) {
  const [wantA, wantB] = key.split("-").map((part) => parseInt(part, 36) | 0);
  const hashes = L.names.map(hash);
  const a = new Int32Array(L.size).fill(17);
  const b = new Int32Array(L.size).fill(31);
  for (let i = 1; i < L.size; i++) {
    const p = L.parent[i];
    [a[i], b[i]] = step(a[p], b[p], hashes[L.name[i]]);
    if (a[i] === wantA && b[i] === wantB) return i;
  }
  return -1;
}

/**
 * pattern reads what was typed into the search box: a regular expression,
 * case ignored; text that is none is looked for as it stands.
 * @param {string} text
 * @returns {{test: ((s: string) => boolean)|null, literal: boolean}}
 */
export function pattern(text) {
  if (!text) return { test: null, literal: false };
  try {
    const re = new RegExp(text, "i");
    return { test: (s) => re.test(s), literal: false };
  } catch {
    const low = text.toLowerCase();
    return { test: (s) => s.toLowerCase().includes(low), literal: true };
  }
}

/**
 * matches tells which names a test takes and how much of the whole passes
 * through them (each stack once; in a sandwich only what is called counts,
 * the callers being a second view of the same weight).
 * @param {Layout} L @param {(s: string) => boolean} test
 * @returns {{hit: Uint8Array, before: Int32Array, value: number, frames: number}} hit: per name;
 *   before: per place in L.order, how many hits come before it
 */
export function matches(L, test) {
  const hit = new Uint8Array(L.names.length);
  for (let i = 0; i < hit.length; i++) hit[i] = test(L.names[i]) ? 1 : 0;
  const under = new Uint8Array(L.size);
  let value = 0;
  let frames = 0;
  for (let i = 0; i < L.size; i++) {
    const own = hit[L.name[i]] === 1 && (i > 0 || L.sandwich);
    const above = i > 0 && under[L.parent[i]] === 1;
    under[i] = own || above ? 1 : 0;
    if (own) frames++;
    if (own && !above && L.depth[i] >= 0) value += L.cum[i];
  }
  const before = new Int32Array(L.size + 1);
  for (let k = 0; k < L.size; k++) before[k + 1] = before[k] + hit[L.name[L.order[k]]];
  return { hit, before, value, frames };
}
