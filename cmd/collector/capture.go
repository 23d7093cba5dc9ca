package main

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
)

// capture is the section of the file that says what is wanted of processes
// that die.
type capture struct {
	Default  tier             `yaml:"default"`
	Services []serviceCapture `yaml:"services"`
	Enough   enough           `yaml:"enough"`
	Full     enough           `yaml:"enough_full"`
}

// coreAnalysis is the section that says how stored cores are looked at.
type coreAnalysis struct {
	Unconfined bool `yaml:"unconfined"` // also where the sandbox does not hold
}

type serviceCapture struct {
	Match string `yaml:"match"`
	Tier  tier   `yaml:"tier"`
}

// tier is how much is wanted.
type tier inquest.Tier

func (t *tier) UnmarshalYAML(n *yaml.Node) error {
	if !inquest.Tier(n.Value).Valid() {
		return fmt.Errorf("line %d: %q: want none, text, mini or full", n.Line, n.Value)
	}
	*t = tier(n.Value)
	return nil
}

// enough is a number of cores; none is -1.
type enough = perGroup

// capture is the section as room ingest has it.
func (o *options) capture() ingest.Capture {
	k := &o.Capture
	c := ingest.Capture{Default: inquest.Tier(k.Default), Enough: int(k.Enough), EnoughFull: int(k.Full)}
	for _, s := range k.Services {
		c.Services = append(c.Services, ingest.ServiceCapture{Match: s.Match, Tier: inquest.Tier(s.Tier)})
	}
	return c
}
