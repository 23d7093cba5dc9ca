import assert from "node:assert/strict";
import test from "node:test";
import { codeRows, columns, dearest, lineRows, related } from "../sourcelines.js";

const line = (n, self, cum, text) => ({ line: n, self, cum, text });
const answer = {
  files: [
    { file: "/src/a.go", from: "a zip", lines: [line(4, 0, 0, "func f() {"), line(5, 2, 3, "\tx := g(1)"), line(9, 0, 0, "}")] },
    { file: "/src/none.go", lines: [line(7, 1, 1), line(70, 0, 0)] },
    { file: "/src/empty.go", lines: [] },
  ],
  instructions: [
    { address: 0x1000, bytes: 4, text: "MOVQ", file: "/src/a.go", line: 5, self: 1, cum: 1 },
    { address: 0x1004, bytes: 5, text: "CALL", file: "/src/a.go", line: 5, self: 0, cum: 1, target: "x/y.g" },
    { address: 0x1009, bytes: 3, text: "ADDQ", file: "/src/h.go", line: 2, inlined: ["x/y.h"], own_file: "/src/a.go", own_line: 5, self: 1, cum: 1 },
    { address: 0x2000, bytes: 1, text: "RET", file: "/src/a.go", line: 9, self: 0, cum: 0 },
  ],
};

test("lines are listed under their file, with gaps where text is left out", () => {
  const rows = lineRows(answer);
  assert.deepEqual(rows.map((r) => r.kind), ["file", "line", "line", "gap", "line", "file", "line", "line"]);
  assert.equal(rows[3].text, "3 lines left out");
  assert.deepEqual([rows[2].key, rows[2].number, rows[6].key, rows[6].text], ["/src/a.go:5", "5", "/src/none.go:7", ""]);
  assert.equal(dearest(rows), 2);
  assert.equal(dearest([]), -1);
});

test("instructions say where they come from when that changes", () => {
  const rows = codeRows(answer);
  assert.deepEqual(rows.map((r) => r.kind), ["code", "code", "code", "gap", "code"]);
  assert.deepEqual(rows.map((r) => r.place ?? null), ["a.go:5", "", "h.go:2 in y.h", null, "a.go:9"]);
  assert.equal(rows[1].target, "x/y.g");
});

test("a line has its instructions, inlined ones too, and an instruction its lines", () => {
  const rows = codeRows(answer);
  assert.deepEqual([...related("/src/a.go:5", rows).code], ["0x1000", "0x1004", "0x1009"]);
  assert.deepEqual([...related("/src/h.go:2", rows).code], ["0x1009"]);
  assert.deepEqual([...related("0x1009", rows).lines], ["/src/a.go:5", "/src/h.go:2"]);
  assert.equal(related("0x9999", rows).lines.size, 0);
  assert.equal(related("", rows).code.size, 0);
});

test("tabs end at every fourth column", () => {
  assert.deepEqual(["", "ab", "\t", "ab\tc", "\t\tx"].map(columns), [0, 2, 4, 5, 9]);
});
