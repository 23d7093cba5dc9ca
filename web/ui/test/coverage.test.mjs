import assert from "node:assert/strict";
import test from "node:test";
import { facts } from "../coverage.js";

const coverage = {
  profiles: 12, processes: 1, samples: 8772, from: "2026-11-21T10:00:00Z", until: "2026-11-21T11:00:00Z", resolution: "raw",
  observed_process_seconds: 120, present_process_seconds: 720, pruned: { nodes: 0, value: 0 }, unsymbolized: 0,
};

test("an exact answer says what it covers and raises no flag", () => {
  const f = facts({ total: 4.68e9, unit: "nanoseconds", type: "cpu", agg: "sum", coverage });
  assert.equal(f.total, "4.68 s of CPU time");
  assert.deepEqual(f.facts, ["12 profiles of 1 process", "8\u202f772 samples", "observed 2 min of 12 min process time (16.7%)", "raw profiles"]);
  assert.deepEqual(f.flags, []);
});

test("levels say how they were taken over the window", () => {
  const f = facts({ total: 2 ** 29, unit: "bytes", type: "inuse_space", agg: "avg", coverage });
  assert.equal(f.total, "512 MiB in use on average");
  assert.ok(f.facts.includes("12 min of process time in a window of 1 h"));
  assert.equal(facts({ total: 7, unit: "count", type: "goroutine", agg: "max", coverage }).total, "7 goroutines, largest of each process");
});

test("whatever is not exact is flagged", () => {
  const f = facts({
    total: 100, unit: "count", type: "samples", agg: "sum",
    coverage: { ...coverage, incomplete: true, damaged: ["b1"], estimated: true, truncated_profiles: 2, unsymbolized: 5, pruned: { nodes: 3, value: 1 } },
  });
  assert.deepEqual(f.flags.map((x) => x.text), ["incomplete", "1 damaged block left out", "estimated", "2 shortened profiles", "5.00% without names", "3 frames not drawn"]);
  assert.deepEqual(f.flags.filter((x) => x.bad).length, 2);
  assert.deepEqual(f.flags.filter((x) => x.link).map((x) => [x.text, x.link]), [["5.00% without names", "/builds"]]);
});
