import assert from "node:assert/strict";
import test from "node:test";
import { Loader } from "../loader.js";

/** request is one whose end the test decides. */
function request() {
  const r = {};
  r.fetch = (signal) => new Promise((resolve, reject) => {
    Object.assign(r, { resolve, reject, signal });
    signal.addEventListener("abort", () => reject(Object.assign(new Error("aborted"), { name: "AbortError" })));
  });
  return r;
}

test("the newest question wins, the one before is given up", async () => {
  const busy = [];
  const shown = [];
  const failed = [];
  const loader = new Loader((b) => busy.push(b));
  const need = (key, r) => loader.need("part", key, r.fetch, (a) => shown.push(a), (e) => failed.push(e.message));
  const [a, b, c] = [request(), request(), request()];
  const first = need("a", a);
  need("a", c); // the same question: no request
  assert.equal(c.signal, undefined);
  const second = need("b", b);
  assert.ok(a.signal.aborted && !b.signal.aborted);
  b.resolve("B");
  await Promise.all([first, second]);
  assert.deepEqual([shown, failed, busy.at(-1)], [["B"], [], false]);

  // A failure is told, and may be asked again.
  const d = request();
  const third = need("d", d);
  d.reject(new Error("no"));
  await third;
  assert.deepEqual(failed, ["no"]);
  const e = request();
  const fourth = need("d", e);
  e.resolve("D");
  await fourth;
  assert.deepEqual(shown, ["B", "D"]);
});
