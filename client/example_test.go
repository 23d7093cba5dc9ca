package client_test

import (
	"fmt"
	"log"

	"github.com/goinquest/inquest/client"
)

// Without the import of package crash: where the agent is, and what the program
// is called, come from the program's own configuration.
func ExampleNewMirror() {
	m := client.NewMirror(client.Options{Socket: "/run/nowhere/crash.sock", Service: "shop", Release: "v7", Traceback: "keep"})
	defer m.Stop()
	fmt.Println("an agent is there:", m.Connected())
	// Output: an agent is there: false
}

// Early in main, so that nothing is written before.
func ExampleCaptureStderr() {
	if err := client.CaptureStderr(client.Options{Socket: "off"}); err != nil {
		log.Print(err) // it goes on without
	}
	fmt.Println("shop is open")
	// Output: shop is open
}
