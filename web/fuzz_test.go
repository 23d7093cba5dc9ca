package web_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/web"
)

// FuzzRequest: whatever is asked, with whatever parameters, headers and body,
// is answered, and never by a fault of ours.
func FuzzRequest(f *testing.F) {
	w := newWorld(f, web.Options{MaxBodyBytes: 1 << 20})
	w.push("service=shop&instance=h1:80&label.zone=a", cpuBody(recent()))
	var routes []web.Route
	for _, rt := range w.server.Routes() {
		// Left out is what waits, and what takes the collector's own profiles.
		if !strings.Contains(rt.Path, "/commands") && !strings.Contains(rt.Path, "/debug/") && !strings.HasPrefix(rt.Path, "/api/v1/targets/") {
			routes = append(routes, rt)
		}
	}
	for i := range routes {
		f.Add(uint8(i), "x", `query={service="shop"}&type=cpu&from=-1h&until=now&by=service&limit=5&step=30s`, "gzip", "1", []byte("{}"))
	}
	f.Add(uint8(0), "x", "service=shop&kind=cpu&label.a=b&start=1e9&end=-5&interval=1h", "zstd", "-1", cpuBody(recent()))
	f.Add(uint8(3), "../x", "query=%7B%7D&type=inuse_space&agg=avg&rate=1&max_nodes=0", "", "", []byte(nil))
	c := crashNow(1, "shop", "ab12")
	im := tinyCore(f, c.ID)
	for i, rt := range routes {
		switch rt.Path {
		case "/api/v1/crashes":
			crashes, err := json.Marshal([]inquest.Crash{c, crashNow(2, "shop", "")})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), "", "", "", "1", crashes)
		case "/api/v1/cores":
			offer, err := json.Marshal(inquest.CoreOffer{Crash: c, Ledger: im.Ledger().Bytes()})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), "", "", "", "1", offer)
		}
		if strings.Contains(rt.Path, "/cores/:id") {
			f.Add(uint8(i), im.Ledger().ID(), "format=tar", "", "1", []byte("block"))
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, param, query, encoding, protocol string, body []byte) {
		rt := routes[int(route)%len(routes)]
		path := strings.NewReplacer(":name", param, ":id", param, ":command", param, ":version", param, ":file", param, ":n", param).Replace(rt.Path)
		r := httptest.NewRequest(rt.Method, "/", bytes.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Host = "localhost"
		r.Header.Set("Content-Encoding", encoding)
		r.Header.Set("Inquest-Protocol", protocol)
		r.Header.Set("Inquest-Sent-At", param)
		rec := httptest.NewRecorder()
		w.server.Handler().ServeHTTP(rec, r)
		if rec.Code >= 500 {
			t.Errorf("%s %s?%s: %d %s\n%s", rt.Method, path, query, rec.Code, rec.Body, w.log)
		}
	})
}
