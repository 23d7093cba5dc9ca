package agent

import "github.com/goinquest/inquest"

// captureState is what the agent reports of cores.
func (a *Agent) captureState() inquest.CaptureState {
	s := a.cores.Stats()
	return inquest.CaptureState{
		Waiting: int64(s.Cores), Bytes: s.Bytes, Quota: s.Quota, Dropped: s.DroppedCores, Error: s.LastError,
	}
}
