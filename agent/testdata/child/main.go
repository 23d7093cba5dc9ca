// Command child is a small Go service for the tests of host discovery: it
// serves pprof on one port and something else on another, burns a little
// CPU, and prints the ports it listens on. Its argument may say that it does
// not serve profiles, and how.
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"
)

var sink []byte

func burn() {
	for {
		for i := range 1 << 16 {
			sink = append(sink[:0], byte(i))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func run() error {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	if mode == "silent" {
		fmt.Println("ready")
		time.Sleep(time.Hour)
		return nil
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	main, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go burn()
	otherMux := http.NewServeMux()
	otherMux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(os.Stderr, "asked %s by %s\n", r.URL.Path, r.UserAgent())
		http.NotFound(w, r)
	})
	go func() { _ = http.Serve(other, otherMux) }()
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", func(w http.ResponseWriter, r *http.Request) {
		switch mode {
		case "forbidden":
			w.WriteHeader(http.StatusForbidden)
		case "redirect":
			http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
		case "page":
			fmt.Fprint(w, "<html>Welcome</html>")
		default:
			pprof.Index(w, r)
		}
	})
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	fmt.Println(main.Addr().(*net.TCPAddr).Port, other.Addr().(*net.TCPAddr).Port)
	return http.Serve(main, mux)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
