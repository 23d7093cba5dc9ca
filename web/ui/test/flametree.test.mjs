import assert from "node:assert/strict";
import test from "node:test";
import { findPath, focus, hide, layout, matches, pathKey, pattern, sandwich } from "../flametree.js";

/** tree makes columns of stacks: "a;b;c" → value. */
function tree(stacks) {
  const t = { names: ["total"], name: [0], parent: [-1], self: [0], cum: [0] };
  for (const [stack, v] of Object.entries(stacks)) {
    let n = 0;
    t.cum[0] += v;
    for (const f of stack.split(";")) {
      let id = t.names.indexOf(f);
      if (id < 0) id = t.names.push(f) - 1;
      let k = t.name.findIndex((x, i) => i > 0 && x === id && t.parent[i] === n);
      if (k < 0) {
        k = t.name.push(id) - 1;
        t.parent.push(n);
        t.self.push(0);
        t.cum.push(0);
      }
      n = k;
      t.cum[n] += v;
    }
    t.self[n] += v;
  }
  return t;
}

/** paths is the reverse: path → [self, cum]. */
function paths(t) {
  const out = {};
  const path = [];
  for (let i = 0; i < t.name.length; i++) {
    path[i] = i === 0 ? t.names[t.name[0]] : path[t.parent[i]] + ";" + t.names[t.name[i]];
    out[path[i]] = [t.self[i], t.cum[i]];
  }
  return out;
}

const sample = { "a;b;c": 3, "a;c": 2, "a;b;b;d": 4, "e": 1, "e;b;a": 5 };

test("focus keeps the stacks through a function", () => {
  assert.deepEqual(paths(focus(tree(sample), "b")), {
    total: [0, 12], "total;a": [0, 7], "total;a;b": [0, 7], "total;a;b;c": [3, 3], "total;a;b;b": [0, 4], "total;a;b;b;d": [4, 4],
    "total;e": [0, 5], "total;e;b": [0, 5], "total;e;b;a": [5, 5],
  });
  assert.deepEqual(paths(focus(tree(sample), "none")), { total: [0, 0] });
});

test("hide moves what a function called to its callers", () => {
  assert.deepEqual(paths(hide(tree(sample), "b")), {
    total: [0, 15], "total;a": [0, 9], "total;a;c": [5, 5], "total;a;d": [4, 4], "total;e": [1, 6], "total;e;a": [5, 5],
  });
});

test("sandwich counts every stack once, at the outermost occurrence", () => {
  const s = sandwich(tree(sample), "b");
  assert.equal(s.total, 12);
  assert.deepEqual(paths(s.callees), { b: [0, 12], "b;c": [3, 3], "b;b": [0, 4], "b;b;d": [4, 4], "b;a": [5, 5] });
  assert.deepEqual(paths(s.callers), { b: [0, 12], "b;a": [7, 7], "b;e": [5, 5] });
  assert.equal(sandwich(tree(sample), "none"), null);
});

test("layout: children lie within their parents, rows are sorted, widest first", () => {
  const s = sandwich(tree(sample), "b");
  for (const L of [layout(tree(sample)), layout(s.callees, s.callers)]) {
    assert.equal(L.rowStart.at(-1), L.size);
    for (let i = 1; i < L.size; i++) {
      const p = L.parent[i];
      assert.ok(L.x[i] >= L.x[p] - 1e-12 && L.x[i] + L.w[i] <= L.x[p] + L.w[p] + 1e-12);
      assert.equal(Math.abs(L.depth[i]), Math.abs(L.depth[p]) + 1);
      assert.equal(L.order[L.rank[i]], i);
    }
    for (let d = L.minDepth; d <= L.maxDepth; d++) {
      const row = L.order.subarray(L.rowStart[d - L.minDepth], L.rowStart[d - L.minDepth + 1]);
      for (let k = 1; k < row.length; k++) assert.ok(L.x[row[k]] >= L.x[row[k - 1]] + L.w[row[k - 1]] - 1e-12);
    }
  }
  assert.deepEqual([layout(s.callees, s.callers).minDepth, layout(s.callees, s.callers).maxDepth], [-1, 2]);
});

test("a path key finds its node again, also in another answer", () => {
  const L = layout(tree(sample));
  const keys = new Set();
  for (let i = 1; i < L.size; i++) {
    const key = pathKey(L, i);
    keys.add(key);
    assert.equal(findPath(L, key), i);
  }
  assert.equal(keys.size, L.size - 1);
  const other = layout(tree({ z: 50, ...sample }));
  const at = findPath(other, pathKey(L, findPath(L, pathKey(L, 2))));
  assert.equal(other.names[other.name[at]], L.names[L.name[2]]);
  assert.equal(findPath(L, "x-y"), -1);
});

test("a search counts every stack once", () => {
  const L = layout(tree(sample));
  const m = matches(L, pattern("^[bc]$").test);
  assert.equal(m.value, 14);
  assert.equal(m.frames, 5);
  assert.equal(m.before[L.size], m.frames);
  assert.deepEqual(pattern(""), { test: null, literal: false });
  const broken = pattern("(*T");
  assert.ok(broken.literal && broken.test("x.(*t).F") && !broken.test("x"));
});
