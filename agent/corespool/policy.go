package corespool

import (
	"errors"
	"io/fs"

	"github.com/goinquest/inquest"
)

// SavePolicy keeps the newest policy for the next start.
func (p *Pool) SavePolicy(policy inquest.CapturePolicy) error {
	record, err := appendRecord(nil, policy)
	if err != nil {
		return err
	}
	return diskError("keep policy", p.files.Write("", namePolicy, record))
}

// Policy is what SavePolicy kept, the zero value if there is none that can be
// read.
func (p *Pool) Policy() inquest.CapturePolicy {
	var policy inquest.CapturePolicy
	err := p.readRecord("", namePolicy, &policy)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return policy
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Damaged++
	p.fail("read policy", err)
	return inquest.CapturePolicy{}
}
