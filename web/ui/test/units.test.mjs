import assert from "node:assert/strict";
import test from "node:test";
import { ago, axis, count, dateTime, digits, format, percent, plural, span, ticks, timeMarks } from "../units.js";

test("values in their units", () => {
  const cases = [
    [0, "nanoseconds", "0 s"], [950, "nanoseconds", "950 ns"], [1500, "nanoseconds", "1.50 µs"], [12_340_000, "nanoseconds", "12.3 ms"],
    [999_700_000, "nanoseconds", "1.00 s"], [68.2e9, "nanoseconds", "68.2 s"], [120e9, "nanoseconds", "2 min"], [9000e9, "nanoseconds", "2.50 h"],
    [-2e9, "nanoseconds", "-2 s"], [1.5, "seconds", "1.50 s"],
    [0, "bytes", "0 B"], [1023, "bytes", "1023 B"], [1024, "bytes", "1 KiB"], [1536, "bytes", "1.50 KiB"], [443e6, "bytes", "422 MiB"], [1048575, "bytes", "1.00 MiB"],
    [2048, "bytes/s", "2 KiB/s"], [0, "cores", "0 cores"], [1, "cores", "1 core"], [0.42, "cores", "0.420 cores"], [0.0123, "cores", "12.3 mcores"],
    [999, "count", "999"], [12345, "count", "12.3 k"], [1.5, "1/s", "1.50 /s"], [3, "instructions", "3 instructions"], [NaN, "count", "–"],
  ];
  for (const [v, unit, want] of cases) assert.equal(format(v, unit), want, `${v} ${unit}`);
});

test("digits", () => {
  for (const [v, want] of [[0, "0"], [5, "5"], [1.234, "1.23"], [12.34, "12.3"], [123.4, "123"], [0.01234, "0.0123"], [0.0001234, "1.2e-4"]]) assert.equal(digits(v), want);
});

test("percent", () => {
  for (const [a, b, want] of [[0, 5, "0%"], [1, 0, "–"], [1, 100000, "<0.01%"], [1, 30, "3.33%"], [1, 3, "33.3%"], [1, 1, "100%"], [999999, 1000000, "100%"]]) assert.equal(percent(a, b), want);
});

test("counts and times", () => {
  assert.equal(count(1234567), "1\u202f234\u202f567");
  assert.equal(plural(1, "process", "processes"), "1 process");
  assert.equal(plural(2, "process", "processes"), "2 processes");
  assert.equal(span(45), "45 s");
  assert.equal(span(3900), "1 h 5 min");
  assert.equal(span(86400), "1 d");
  assert.equal(ago(1000, 66000), "1 min 5 s ago");
  assert.equal(ago(5000, 1000), "in 4 s");
  assert.equal(dateTime(Date.UTC(2026, 10, 1, 9, 5, 7), true), "2026-11-01 09:05:07");
});

test("axes end at or above the largest value and begin at 0", () => {
  for (const unit of ["nanoseconds", "bytes", "count", "cores"]) {
    for (const max of [1e-6, 0.3, 1, 7, 99, 1023, 1025, 3e9, 7e12]) {
      const t = ticks(max, unit);
      assert.equal(t[0], 0);
      assert.ok(t.at(-1) >= max && t.at(-2) < max, `${max} ${unit}: ${t}`);
      assert.ok(t.length <= 6, `${max} ${unit}: ${t}`);
    }
  }
  assert.deepEqual(axis([0, 0.05, 0.1, 0.15], "cores"), ["0 cores", "0.05 cores", "0.1 cores", "0.15 cores"]);
  assert.deepEqual(axis([0, 512, 1024, 1536], "bytes"), ["0 KiB", "0.5 KiB", "1 KiB", "1.5 KiB"]);
  assert.deepEqual(axis([0, 1], "cores"), ["0 cores", "1 core"]);
});

test("time marks are round and inside", () => {
  const from = Date.UTC(2026, 10, 21, 11, 42, 13);
  const marks = timeMarks(from, from + 3600e3, 12, true);
  assert.equal(marks[0].text, "11:45");
  assert.ok(marks.every((m) => m.at >= from && m.at <= from + 3600e3));
  assert.equal(timeMarks(Date.UTC(2026, 10, 20, 20), Date.UTC(2026, 10, 21, 4), 9, true).find((m) => m.text === "11-21").at, Date.UTC(2026, 10, 21));
});
