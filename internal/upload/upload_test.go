package upload_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/upload"
)

// taker is a collector's side of the protocol, and of what goes wrong.
type taker struct {
	mu     sync.Mutex
	have   []byte
	asks   int
	status []int // answered to the next parts, instead of taking them
	cut    int64 // bytes after which a body is cut off, once
}

func (k *taker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var first, last, total int64
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes */%d", &total); err == nil {
		k.asks++
		k.answer(w, r, total)
		return
	}
	if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if len(k.status) > 0 {
		status := k.status[0]
		k.status = k.status[1:]
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(status)
		return
	}
	if first != int64(len(k.have)) {
		w.WriteHeader(http.StatusConflict)
		return
	}
	if k.cut > 0 {
		part, _ := io.ReadAll(io.LimitReader(r.Body, k.cut))
		k.have, k.cut = append(k.have, part...), 0
		panic(http.ErrAbortHandler)
	}
	part, err := io.ReadAll(r.Body)
	k.have = append(k.have, part...)
	if err == nil {
		k.answer(w, r, total)
	}
}

func (k *taker) answer(w http.ResponseWriter, r *http.Request, total int64) {
	if int64(len(k.have)) < total {
		w.WriteHeader(http.StatusPermanentRedirect)
		fmt.Fprintf(w, `{"received":%d,"bytes":%d}`, len(k.have), total)
		return
	}
	fmt.Fprintf(w, `{"id":"ab","sha256":%q,"bytes":%d}`, r.Header.Get(inquest.HeaderSHA256), total)
}

func (k *taker) serve(t *testing.T) *upload.Sender {
	t.Helper()
	s := httptest.NewServer(k)
	t.Cleanup(s.Close)
	c, err := remote.New(remote.Options{URL: s.URL + "/base/"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &upload.Sender{Base: c.Base(), Do: c.Do}
}

// binary makes one of n bytes.
func binary(n int) (upload.Binary, []byte) {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data) // never fails
	sum := sha256.Sum256(data)
	return upload.Binary{ID: "ab", SHA256: hex.EncodeToString(sum[:]), Bytes: int64(n), File: bytes.NewReader(data)}, data
}

func TestSend(t *testing.T) {
	const size = 70 << 20 // three parts
	tests := []struct {
		name string
		k    *taker
		here bool
	}{
		{"from the start", &taker{}, false},
		{"the rest", &taker{have: make([]byte, 40<<20)}, false},
		{"nothing", &taker{have: make([]byte, size)}, true},
		{"cut", &taker{cut: 10 << 20}, false},
		{"busy and broken", &taker{status: []int{429, 500, 503}}, false},
		{"taken further by somebody else", &taker{have: make([]byte, 5<<20), status: []int{409}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, data := binary(size)
			copy(tt.k.have, data)
			s := tt.k.serve(t)
			if tt.k.status != nil && tt.k.status[0] == http.StatusConflict {
				// Between the question and the part more has come.
				more, do := data[5<<20:6<<20], s.Do
				s.Do = func(r *http.Request) (*http.Response, error) {
					resp, err := do(r)
					if errors.Is(err, inquest.ErrConflict) {
						tt.k.mu.Lock()
						tt.k.have = append(tt.k.have, more...)
						tt.k.mu.Unlock()
					}
					return resp, err
				}
			}
			last := int64(-1)
			s.Progress = func(have int64) { last = have }
			stored, err := s.Send(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if stored.Here != tt.here || stored.SHA256 != b.SHA256 || last != size {
				t.Errorf("stored %+v, the last progress is %d", stored, last)
			}
			if !bytes.Equal(tt.k.have, data) {
				t.Error("what came is not what was sent")
			}
		})
	}
}

func TestSendGivesUp(t *testing.T) {
	b, _ := binary(1000)
	for status, kind := range map[int]error{
		400: inquest.ErrInvalid, 401: inquest.ErrUnauthorized, 403: inquest.ErrForbidden, 404: inquest.ErrNotFound, 409: inquest.ErrConflict, 413: inquest.ErrTooLarge,
	} {
		k := &taker{status: []int{status, status}}
		_, err := k.serve(t).Send(t.Context(), b)
		if !errors.Is(err, kind) || len(k.status) != 1 {
			t.Errorf("%d: %v, left to answer %v", status, err, k.status)
		}
	}
	k := &taker{status: []int{503, 503, 503}}
	s := k.serve(t)
	s.Tries = 2
	if _, err := s.Send(t.Context(), b); !errors.Is(err, inquest.ErrUnavailable) || len(k.status) != 1 {
		t.Errorf("after two tries: %v, left to answer %v", err, k.status)
	}
}

// A page that a proxy answers with is not taken for a collector's answer.
func TestSendToSomethingElse(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusPermanentRedirect} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, "<html>log in</html>")
		}))
		defer srv.Close()
		base, err := url.Parse(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := binary(10)
		s := upload.Sender{Base: base, Do: http.DefaultClient.Do}
		if _, err := s.Send(t.Context(), b); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

func TestRate(t *testing.T) {
	b, _ := binary(1 << 20)
	s := new(taker).serve(t)
	s.RateBytes = 1 << 20
	begin := time.Now()
	if _, err := s.Send(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	// A slow machine may take longer.
	if d := time.Since(begin); d < 700*time.Millisecond {
		t.Errorf("1 MiB at 1 MiB/s took %v", d)
	}
}

// The end of the context ends an upload that is held back.
func TestSendIsCancelled(t *testing.T) {
	b, _ := binary(1 << 20)
	s := new(taker).serve(t)
	s.RateBytes = 64 << 10
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Send(ctx, b); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %v to end", d)
	}
}
