// Package program holds what the programs of the project share around their
// work: how they end, how they log, how much memory they aim at. It knows
// nothing of profiles.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/goinquest/inquest/internal/settings"
)

// The exit codes of every program.
const (
	ExitOK      = 0
	ExitFailure = 1 // something went wrong while running
	ExitUsage   = 2 // called or configured wrongly
	ExitRefused = 3 // the collector does not want what it was given; doing it again cannot help
)

// ErrRefused is an error that ends a program with ExitRefused.
var ErrRefused = errors.New("refused")

// Status is an error that ends a program with this exit code and without a
// word: what there is to say has been written.
type Status int

// Error names the code, for tests: people do not get to see it.
func (s Status) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

// Run is a whole program: it returns when ctx ends and everything it started
// has stopped, or when it cannot go on.
type Run func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main calls run with the process's arguments and ends the process with the
// exit code that belongs to its error. SIGINT and SIGTERM end the context; a
// second one ends the process at once.
func Main(name string, run Run) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(ExitFailure)
	}()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if status := Status(0); err != nil && !errors.As(err, &status) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	os.Exit(ExitCode(err))
}

// ExitCode is the exit code that belongs to the error of a Run.
func ExitCode(err error) int {
	var usage *settings.Error
	var status Status
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		return ExitUsage
	case errors.Is(err, ErrRefused):
		return ExitRefused
	}
	return ExitFailure
}

// Logging is the settings of a program's log.
type Logging struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

// Define adds the settings of the log to a set.
func (l *Logging) Define(s *settings.Set) {
	s.Group("Log")
	s.Choice(&l.Level, "log-level", "info", []string{"debug", "info", "warn", "error"}, "least `LEVEL` that is logged")
	s.Choice(&l.Format, "log-format", "text", []string{"text", "json"}, "`FORMAT` of the log")
}

// Logger returns a logger that writes to w, and the level it obeys, which may
// be set while it is in use.
func (l *Logging) Logger(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(l.SlogLevel())
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), level
	}
	return slog.New(slog.NewTextHandler(w, o)), level
}

// SlogLevel is the level as package slog has it.
func (l *Logging) SlogLevel() slog.Level {
	switch l.Level {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}
