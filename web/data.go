package web

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// deleteData deletes what is stored of a service, or of a range of time.
func (s *Server) deleteData(c echo.Context) error {
	p := s.params(c, "service", "from", "until", "reason", "dry_run")
	d := store.Deletion{
		Service: p.text("service"), Window: inquest.Window{From: p.time("from", time.Time{}), Until: p.time("until", time.Time{})},
		Reason: p.text("reason"), By: caller(c).name,
	}
	for _, name := range []string{"service", "from", "until"} {
		if p.values.Has(name) && p.text(name) == "" { // less would be meant than what is deleted
			p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %s is empty", name))
		}
	}
	dry := p.boolean("dry_run")
	if len(d.Reason) > maxReason {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter reason has %d bytes, %d are allowed", len(d.Reason), maxReason))
	}
	if err := p.err(); err != nil {
		return err
	}
	ctx, do := c.Request().Context(), s.o.Store.Delete
	if dry {
		do = s.o.Store.Preview
	} else {
		span := fmt.Sprintf("%s to %s", d.Window.From.Format(time.RFC3339), d.Window.Until.Format(time.RFC3339))
		if err := s.record(c, "delete data", "service "+d.Service, "span", span, "reason", d.Reason); err != nil {
			return err
		}
	}
	d, err := do(ctx, d)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, d.Record())
}

// maxReason bounds what is kept for ever of a request.
const maxReason = 1000

// getDeletions lists what was ever deleted on request.
func (s *Server) getDeletions(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	ds, err := s.o.Store.Deletions()
	if err != nil {
		return err
	}
	out := make([]store.DeletionRecord, len(ds))
	for i := range ds {
		out[i] = ds[i].Record()
	}
	return c.JSON(http.StatusOK, struct {
		Values []store.DeletionRecord `json:"values"`
	}{out})
}
