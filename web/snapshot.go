package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

// snapshotTimeout is how long an agent has for a snapshot, sending not
// included.
const snapshotTimeout = 2 * time.Minute

// snapshotWanted is what POST /api/v1/targets/snapshot asks for.
type snapshotWanted struct {
	Agent  string       `json:"agent"`
	Target string       `json:"target"`
	Tier   inquest.Tier `json:"tier"` // TierMini or TierFull; default TierMini
}

// snapshotTaken is what became of it.
type snapshotTaken struct {
	inquest.CommandResult
	Link string `json:"link,omitempty"` // the page that shows it
}

// snapshotTarget has an agent copy the memory of a target that goes on.
func (s *Server) snapshotTarget(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var want snapshotWanted
	if err := s.decode(c, &want); err != nil {
		return err
	}
	if want.Tier == "" {
		want.Tier = inquest.TierMini
	}
	if !want.Tier.Cores() {
		return inquest.Errorf(inquest.ErrInvalid, "tier %.20q: want %s or %s", want.Tier, inquest.TierMini, inquest.TierFull)
	}
	if want.Agent == "" || want.Target == "" {
		return inquest.Errorf(inquest.ErrInvalid, "agent and target are needed, as GET /api/v1/targets names them")
	}
	object := clipText(want.Agent, 128) + "/" + clipText(want.Target, 128)
	if err := s.record(c, "snapshot", object, "tier", string(want.Tier)); err != nil {
		return err
	}
	taken, err := s.snapshot(c, want)
	if err != nil {
		s.recordFailed(c, "snapshot", object, err)
		return err
	}
	return c.JSON(http.StatusOK, taken)
}

func (s *Server) snapshot(c echo.Context, want snapshotWanted) (*snapshotTaken, error) {
	stop, cancelStop := s.untilStop(c.Request().Context())
	defer cancelStop()
	ctx, cancel := context.WithTimeout(stop, snapshotTimeout)
	defer cancel()
	result, err := s.o.Fleet.Send(ctx, want.Agent, inquest.Command{Verb: inquest.VerbSnapshot, Target: want.Target, Tier: want.Tier})
	switch {
	case err != nil && s.stopping.Err() != nil:
		return nil, inquest.Errorf(inquest.ErrUnavailable, "the collector is stopping; try again in a moment")
	case errors.Is(err, context.DeadlineExceeded):
		return nil, inquest.Errorf(inquest.ErrUnavailable, "agent %q did not answer in time", want.Agent)
	case err != nil:
		return nil, err
	case result.Error != "":
		return nil, inquest.Errorf(inquest.ErrUnavailable, "agent %q could not take the snapshot: %s", want.Agent, result.Error)
	}
	taken := &snapshotTaken{CommandResult: *result}
	if result.Crash != "" {
		taken.Link = "/crashes/" + result.Crash
	}
	return taken, nil
}
