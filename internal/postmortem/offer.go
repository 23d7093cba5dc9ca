package postmortem

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/remote"
)

// Push says what core file is sent to a collector, and of what.
type Push struct {
	File              string // an ELF core of a Go program
	Service, Instance string
	At                time.Time // of the death; zero: of the file
	Progress          func(part float64, what string)
}

// Pushed says what became of it.
type Pushed struct {
	Crash string       `json:"crash"`
	Core  string       `json:"core"`
	Want  inquest.Tier `json:"want"` // what the collector wanted of it
	Build string       `json:"build,omitempty"`
	Link  string       `json:"link"`
	Sent  int64        `json:"sent_bytes"`
}

// Send makes an image of a core file and sends what the collector wants of it.
func Send(ctx context.Context, c *remote.Client, p Push) (*Pushed, error) {
	f, err := os.Open(p.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if p.At.IsZero() {
		p.At = st.ModTime().UTC()
	}
	// The same file is the same crash, however often it is sent.
	process := fmt.Sprintf("file\x00%s\x00%d\x00%d", p.Service, st.Size(), p.At.UnixNano())
	crash := inquest.Crash{
		ID: inquest.CrashID(process), Kind: inquest.CrashDeath, At: p.At, Service: p.Service, Instance: p.Instance,
		Class: inquest.ClassUnknown, Tier: inquest.TierNone, Source: []string{"command"},
	}
	image, err := os.CreateTemp("", "inquest-image-*")
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = image.Close(), os.Remove(image.Name()) }()
	ledger, err := coredump.ImportFile(ctx, f, image, coredump.ImportOptions{Core: inquest.Core{Crash: crash.ID}})
	if err != nil {
		return nil, err
	}
	core := ledger.Header().Core
	crash.Build, crash.Core = core.Build, &core
	return p.send(ctx, c, &crash, ledger, image)
}

func (p *Push) send(ctx context.Context, c *remote.Client, crash *inquest.Crash, ledger *coredump.Ledger, image *os.File) (*Pushed, error) {
	out := &Pushed{Crash: crash.ID, Core: ledger.ID(), Build: crash.Build, Link: c.Base().JoinPath("crashes", crash.ID).String()}
	var a inquest.CoreAnswer
	if err := callJSON(ctx, c, "/api/v1/cores", inquest.CoreOffer{Crash: *crash, Ledger: ledger.Bytes()}, &a); err != nil {
		return nil, err
	}
	out.Want = a.Want
	if !a.Want.Cores() || a.Core != nil {
		return out, nil
	}
	var total int64
	blocks := ledger.Blocks()
	each := func(do func(n int) error) error {
		for _, r := range a.Missing {
			for n := max(r[0], 0); n < min(r[1], len(blocks)); n++ {
				if err := do(n); err != nil {
					return err
				}
			}
		}
		return nil
	}
	_ = each(func(n int) error { total += int64(blocks[n].Stored); return nil }) // adds up
	err := each(func(n int) error {
		raw := make([]byte, blocks[n].Stored)
		if _, err := image.ReadAt(raw, blocks[n].Offset); err != nil {
			return err
		}
		if err := call(ctx, c, http.MethodPut, corePath(a.ID)+"/blocks/"+strconv.Itoa(n), raw, nil); err != nil {
			return err
		}
		if out.Sent += int64(len(raw)); p.Progress != nil {
			p.Progress(float64(out.Sent)/float64(max(total, 1)), p.File)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, call(ctx, c, http.MethodPost, corePath(a.ID)+"/commit", nil, nil)
}
