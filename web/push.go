package web

import (
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
)

const labelPrefix = "label."

// pushProfile takes one profile and answers once it is durable.
func (s *Server) pushProfile(c echo.Context) error {
	push, err := s.push(c)
	if err != nil {
		return err
	}
	b, err := s.bodies.read(c)
	if err != nil {
		return err
	}
	defer b.release()
	push.Body = b.bytes
	ack, err := s.o.Ingest.Profile(c.Request().Context(), push)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, ack)
}

// push reads the parameters and headers of a pushed profile.
func (s *Server) push(c echo.Context) (*ingest.Push, error) {
	p := s.params(c, "service", "instance", "release", "build", "process", "kind", "type", "temporality", "start", "end", "interval", labelPrefix)
	h := c.Request().Header
	sent := sentAt(p, h)
	if !sent.IsZero() {
		p.now = sent // relative times are by the sender's clock, as all it says
	}
	push := &ingest.Push{
		Service: p.text("service"), Instance: p.text("instance"), Release: p.text("release"), Build: p.text("build"), Process: p.text("process"),
		Kind: p.text("kind"), Temporality: p.text("temporality"),
		Start: p.time("start", time.Time{}), End: p.time("end", time.Time{}), Interval: p.duration("interval", 0),
		Key: h.Get(inquest.HeaderIdempotencyKey), SentAt: sent, Encoding: strings.ToLower(h.Get(echo.HeaderContentEncoding)),
	}
	if push.Kind == "" {
		push.Kind = p.text("type")
	}
	if push.Instance == "" {
		push.Instance = remoteHost(c.Request())
	}
	for name := range p.values {
		label, ok := strings.CutPrefix(name, labelPrefix)
		if !ok {
			continue
		}
		if push.Labels == nil {
			push.Labels = map[string]string{}
		}
		push.Labels[label] = p.text(name)
	}
	if strings.HasPrefix(h.Get(echo.HeaderContentType), "multipart/") {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "the body is a form (%s): send the pprof itself as the body, as curl --data-binary @FILE does", h.Get(echo.HeaderContentType)))
	}
	return push, p.err()
}

// sentAt is the sender's clock when it sent, zero if it does not say.
func sentAt(p *params, h http.Header) time.Time {
	v := h.Get(inquest.HeaderSentAt)
	if v == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "header %s: %.60q is not a time in RFC 3339, as 2026-11-21T15:04:05.123456789Z", inquest.HeaderSentAt, v))
	}
	return t
}
