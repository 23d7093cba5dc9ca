import assert from "node:assert/strict";
import test from "node:test";
import { matcher, parseSelector, selector, serviceOf, withEqual } from "../selector.js";
import { defaults, read, write } from "../state.js";
import { agentProblem, matchesFilter, targetProblem } from "../targetstate.js";
import { iso, moment, relative, windowOf, windowText } from "../times.js";
import { groupTypes, hasRate } from "../types.js";

test("selectors are read and written", () => {
  const ms = parseSelector('{service="a b", env=~"p.*|\\"q\\"", zone!="", pod!~"x"}');
  assert.deepEqual(ms, [
    { name: "service", op: "=", value: "a b" }, { name: "env", op: "=~", value: 'p.*|"q"' },
    { name: "zone", op: "!=", value: "" }, { name: "pod", op: "!~", value: "x" },
  ]);
  assert.deepEqual(parseSelector(selector(ms)), ms);
  assert.equal(matcher({ name: "trace id", op: "=", value: "1" }), '"trace id"="1"');
  assert.deepEqual(parseSelector('{"trace id"="1"}'), [{ name: "trace id", op: "=", value: "1" }]);
  assert.deepEqual([parseSelector(""), parseSelector("{}"), selector([])], [[], [], ""]);
  for (const bad of ["up", '{a="b"', "{a=b}", '{a="b" c="d"}', "{a}", '{a="\\q"}']) assert.equal(parseSelector(bad), null, bad);
  assert.equal(serviceOf(ms), "a b");
  assert.equal(serviceOf(parseSelector('{service=~"a"}')), "");
  assert.equal(selector(withEqual(parseSelector('{env="p"}'), "service", "x")), '{service="x", env="p"}');
  assert.equal(selector(withEqual(parseSelector('{service="x", env="p"}'), "service", "")), '{env="p"}');
});

test("a state survives its URL", () => {
  const s = { ...defaults, query: '{service="a&b"}', type: "inuse_space", hide: ["a.B", "c.(*D).E"], zoom: "x-y", search: "^(a|b)$ +", root: "bottom" };
  assert.deepEqual(read(write(s)), s);
  assert.equal(write(defaults), "");
  assert.deepEqual(read("?unknown=1"), defaults);
});

test("windows of time", () => {
  const now = Date.UTC(2026, 10, 21, 12);
  assert.deepEqual([relative("-1h30m"), relative("now-90s"), relative("now"), relative("-1x"), relative("2026")], [5400, 90, 0, null, null]);
  assert.deepEqual(windowOf("-1h", "now", now), { from: now - 3600e3, until: now, bad: false });
  assert.equal(windowOf("now", "-1h", now).bad, true);
  assert.equal(moment("1700000000.5", now), 1700000000500);
  assert.equal(iso(now), "2026-11-21T12:00:00Z");
  assert.equal(windowText("-1h", "now", true), "Last 1 h");
  assert.equal(windowText("2026-11-21T10:00:00Z", "2026-11-21T11:30:00Z", true), "2026-11-21 10:00 – 11:30");
});

test("types are grouped in the order people expect", () => {
  const g = groupTypes(["goroutine:goroutine", "inuse_space:heap", "cpu:cpu", "alloc_space:heap", "samples:cpu", "joules:other"].map((s) => ({ name: s.split(":")[0], kind: s.split(":")[1], unit: "" })));
  assert.deepEqual(g.map((x) => [x.kind, x.types.map((t) => t.name).join()]), [["cpu", "cpu,samples"], ["heap", "inuse_space,alloc_space"], ["goroutine", "goroutine"], ["other", "joules"]]);
  assert.deepEqual([hasRate("cpu"), hasRate("goroutine"), hasRate("inuse_space"), hasRate("alloc_space")], [true, false, false, true]);
});

test("problems and filter of targets", () => {
  const t = { service: "api", instance: "h:1", state: "down", labels: { env: "prod" }, scrapes: [{ kind: "cpu", error: "timeout" }] };
  assert.ok(targetProblem(t) && !targetProblem({ state: "skipped", reason: "no port" }));
  assert.ok(agentProblem({ silent: true }) && agentProblem({ skew_ns: -6e9 }) && !agentProblem({ skew_ns: 1e9, spool: { profiles: 3 } }));
  assert.ok(matchesFilter(t, { host: "n1" }, "env=prod TIMEOUT n1") && !matchesFilter(t, {}, "api stage"));
});
