import assert from "node:assert/strict";
import test from "node:test";
import { contrast, frameColour, rootColour } from "../colour.js";
import { palettes } from "../flamedraw.js";
import { packagePattern, parseName } from "../names.js";

test("names of functions", () => {
  const cases = [
    ["main.main", "main", "main.main", "main"],
    ["runtime.mallocgc", "runtime", "runtime.mallocgc", "runtime"],
    ["internal/runtime/maps.(*Map).Get", "internal/runtime/maps", "maps.(*Map).Get", "runtime"],
    ["net/http.(*conn).serve", "net/http", "http.(*conn).serve", "std"],
    ["vendor/golang.org/x/net/http2.(*Framer).ReadFrame", "vendor/golang.org/x/net/http2", "http2.(*Framer).ReadFrame", "std"],
    ["github.com/a/b/tsdb.(*Head).Append.func1", "github.com/a/b/tsdb", "tsdb.(*Head).Append.func1", "module"],
    ["gopkg.in/yaml%2ev3.(*parser).peek", "gopkg.in/yaml.v3", "yaml.v3.(*parser).peek", "module"],
    ["github.com/a/b.Sort[go.shape.struct { x/y.Z int }]", "github.com/a/b", "b.Sort[go.shape.struct { x/y.Z int }]", "module"],
    ["slices.SortFunc[...]", "slices", "slices.SortFunc[...]", "std"],
    ["runtime/cgo.cgocall", "runtime/cgo", "cgo.cgocall", "native"],
    ["malloc", "", "malloc", "native"],
    ["std::vector<int>::push_back", "", "std::vector<int>::push_back", "native"],
    ["libc.so.6 0x7f12", "", "libc.so.6 0x7f12", "native"],
    ["", "", "", "native"],
  ];
  for (const [name, pkg, short, owner] of cases) {
    const got = parseName(name);
    assert.deepEqual([got.pkg, got.short, got.owner], [pkg, short, owner], name);
  }
});

test("a package's pattern finds its functions and no others", () => {
  const re = new RegExp(packagePattern("gopkg.in/yaml.v3"));
  assert.ok(re.test("gopkg.in/yaml%2ev3.(*parser).peek") && re.test("gopkg.in/yaml.v3.Unmarshal") && !re.test("gopkg.in/yaml%2ev3/x.F"));
  assert.equal(packagePattern("net/http"), "^net/http\\.");
});

test("text keeps its contrast on every frame, in both themes", () => {
  for (const theme of ["light", "dark"]) {
    for (let i = 0; i < 400; i++) {
      for (const name of [`example.com/p${i}.F`, `main.f${i}`, `runtime.f${i}`, `bufio.f${i}`, `native_${i}`]) {
        const c = contrast(frameColour(name, theme), palettes[theme].text);
        assert.ok(c >= 4.5, `${name} in ${theme}: ${c}`);
      }
    }
    assert.ok(contrast(rootColour(theme), palettes[theme].text) >= 4.5);
    assert.ok(contrast(palettes[theme].dim, palettes[theme].faint) >= 4.5);
  }
});
