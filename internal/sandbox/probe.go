package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// probeStage does nothing; that it can be started is what is asked.
var probeStage = Stage{Name: "probe", Start: func(*Child) (Handler, error) {
	return func(json.RawMessage) (any, error) { return nil, nil }, nil
}}

// Probe starts a child of this program that does nothing, and says which
// layers hold it, and whether the base does: then err is nil.
func Probe(ctx context.Context) ([]Layer, error) {
	p, err := Start(ctx, Options{Stage: probeStage.Name, Limits: Limits{Start: 10 * time.Second}, Unconfined: true})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if ok, missing := hold(p.Layers()); !ok {
		return p.Layers(), errors.New("the sandbox does not hold here: " + missing)
	}
	return p.Layers(), p.Call(ctx, nil, nil)
}
