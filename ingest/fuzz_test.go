package ingest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/profile"
)

// FuzzPush: whatever is pushed is stored or refused with an error of a kind
// that tells the sender what to do; nothing panics.
func FuzzPush(f *testing.F) {
	plain := gunzipped(f, cpuBody(now))
	f.Add("shop", "h:80", "cpu", "", "", "", "zone", "a", int64(0), int64(0), int64(60), cpuBody(now))
	f.Add("shop", "", "", "cumulative", "", "zstd", "", "", now.UnixNano(), int64(5), int64(0), zstded(plain))
	f.Add("shop", "", "heap", "", "000102030405060708090a0b0c0d0e0f", "gzip", "", "", int64(0), int64(0), int64(0), gzipped(heapBody(now, 5, 3)))
	f.Add("shop", "", "mutex", "delta", "", "", "service", "x", int64(-1), int64(1), int64(-1), body(blockTypes, now, 0, sample{"f", []int64{1, 2}}))
	f.Add("", "\x00", "gpu", "x", "zz", "br", "\xff", "\n", int64(1)<<62, int64(-1), int64(1), []byte("\x1f\x8b"))
	w := newWorld(f, ingest.Options{MaxBodyBytes: 1 << 20, Limits: profile.Limits{MaxRawBytes: 4 << 20}, MaxKept: 16})
	f.Fuzz(func(t *testing.T, service, instance, kind, temporality, key, encoding, label, value string, start, length, interval int64, body []byte) {
		p := &ingest.Push{
			Service: service, Instance: instance, Kind: kind, Temporality: temporality, Key: key, Encoding: encoding,
			Interval: time.Duration(interval), Body: body,
		}
		if label != "" {
			p.Labels = map[string]string{label: value}
		}
		if start != 0 {
			p.Start, p.End = time.Unix(0, start), time.Unix(0, start).Add(time.Duration(length))
		}
		ack, err := w.in.Profile(t.Context(), p)
		switch {
		case err == nil && ack.ID == "":
			t.Errorf("stored without an id: %+v", ack)
		case err == nil, errors.Is(err, inquest.ErrInvalid), errors.Is(err, inquest.ErrTooLarge), errors.Is(err, inquest.ErrConflict):
		default:
			t.Errorf("error without a kind that helps the sender: %v", err)
		}
	})
}
