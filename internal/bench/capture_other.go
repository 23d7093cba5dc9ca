//go:build !linux

package main

import (
	"context"
	"io"

	"github.com/goinquest/inquest"
)

func measureCapture(context.Context, options, io.Writer) error {
	return inquest.Errorf(inquest.ErrUnavailable, "cores are captured on Linux only")
}

func guardian([]string) (is bool, err error) { return false, nil }
