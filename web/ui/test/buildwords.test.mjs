import assert from "node:assert/strict";
import test from "node:test";
import { byCode, compareGo, goShares, goVersion, quoteArg, seen, shares, shortID, sortable, sorted } from "../buildwords.js";

const build = (id, more = {}) => ({ id, code: "missing", module_count: 0, services: [], binaries: [], ...more });

test("versions of Go are compared as versions", () => {
  const versions = ["devel", "go1.9", "go1.21rc1", "go1.21rc2", "go1.21.0", "go1.25.3", "go1.25.10", "go1.26"];
  assert.deepEqual(versions.toReversed().sort(compareGo), versions);
  assert.equal(goVersion(build("a", { go_version: "go1.26.1 X:nosynchashtriemap" })), "go1.26.1");
});

test("what says nothing comes last in both directions", () => {
  const list = [build("a"), build("b", { go_version: "go1.9" }), build("c", { go_version: "go1.26" })];
  const ids = (sort) => sorted(list, sort).map((b) => b.id).join("");
  assert.deepEqual([ids("go"), ids("-go"), ids("modules"), ids("last"), ids("-build")], ["bca", "cba", "abc", "abc", "cba"]);
  assert.deepEqual([sortable("-go"), sortable("size"), sortable("toString")], [true, false, false]);
});

test("a build was seen from its first service's data to the last of any", () => {
  const b = build("a", { services: [
    { service: "x", first: "2026-01-01T00:00:00Z", last: "2026-01-02T00:00:00Z" },
    { service: "y", first: "2026-01-01T06:00:00Z", last: "2026-01-03T00:00:00Z" },
  ] });
  assert.deepEqual(seen(b), { first: Date.UTC(2026, 0, 1), last: Date.UTC(2026, 0, 3) });
  assert.ok(Number.isNaN(seen(build("b")).last));
});

test("shares are counts by word", () => {
  const list = [build("a"), build("b", { code: "dwarf" }), build("c")];
  assert.deepEqual(shares(list, (b) => b.code, byCode), [{ name: "dwarf", count: 1 }, { name: "missing", count: 2 }]);
});

test("many versions of Go are counted by release", () => {
  const of = (...versions) => goShares(versions.map((v, i) => build(String(i), { go_version: v }))).map((s) => `${s.name} ${s.count}`);
  assert.deepEqual(of("go1.26.1", "go1.25.9", "go1.26.1", ""), ["go1.26.1 2", "go1.25.9 1", " 1"]);
  assert.deepEqual(of("go1.26.1", "go1.26.2", "go1.26.3", "go1.25.1", "go1.25.2", "go1.25.3", "devel"), ["go1.26 3", "go1.25 3", "devel 1"]);
});

test("ids and arguments are written for people and shells", () => {
  assert.equal(shortID("0123456789abcdef0123"), "0123456789ab");
  assert.equal(shortID("go-0123456789abcdef0123"), "go-0123456789ab");
  assert.deepEqual([quoteArg("http://h:1/x"), quoteArg("a b'c")], ["http://h:1/x", "'a b'\\''c'"]);
});
