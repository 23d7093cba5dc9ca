// Package crash, imported for its effect, makes a program tell the Inquest
// agent of its host how it dies:
//
//	import _ "github.com/goinquest/inquest/client/crash"
//
// When the program panics or the runtime throws, the agent gets what the
// runtime writes to standard error, with the stacks of all goroutines, as it is
// written. If the environment has no GOTRACEBACK, the level is set to "crash",
// as without it no Go program leaves a core: the program then ends by SIGABRT
// rather than with code 2. INQUEST_TRACEBACK=all, or any GOTRACEBACK, changes
// that. See package client for all there is to set.
package crash

import "github.com/goinquest/inquest/client"

func init() { client.NewMirror(client.Options{}) }
