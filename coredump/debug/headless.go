package debug

import (
	"github.com/goinquest/inquest/internal/sandbox"
)

func startHeadless(c *sandbox.Child) (sandbox.Handler, error) { return nil, nil }
