package crashtext

import (
	"bytes"
	"encoding/json"

	"github.com/goinquest/inquest"
)

const (
	helloPrefix  = "inquest/1 "
	maxHello     = 4 << 10 // bytes of the first line
	streamCrash  = "crash"
	streamStderr = "stderr"
)

// hello is the first line of a connection, as package client writes it.
type hello struct {
	Stream  string `json:"stream"`
	PID     int    `json:"pid"` // as the process counts: only good for finding out whose standard error it was
	Service string `json:"service"`
	Release string `json:"release"`
	Go      string `json:"go"`
}

// parseHello reads the line without its end. The error is of kind
// inquest.ErrInvalid. Names that cannot be labels are left out.
func parseHello(line []byte) (hello, error) {
	var h hello
	data, ok := bytes.CutPrefix(line, []byte(helloPrefix))
	if !ok {
		return h, inquest.Errorf(inquest.ErrInvalid, "the first line begins with %.20q, want %q", line, helloPrefix)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		return h, inquest.Errorf(inquest.ErrInvalid, "the first line: %w", err)
	}
	if h.Stream != streamCrash && h.Stream != streamStderr {
		return h, inquest.Errorf(inquest.ErrInvalid, "stream %.20q, want %q or %q", h.Stream, streamCrash, streamStderr)
	}
	if inquest.ValidateLabel(inquest.LabelService, h.Service) != nil {
		h.Service = ""
	}
	if inquest.ValidateLabel(inquest.LabelRelease, h.Release) != nil {
		h.Release = ""
	}
	return h, nil
}
