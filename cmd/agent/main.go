// Command agent runs on every host: it finds Go services, takes their
// profiles and ships them to the collector. This package wires package agent
// to flags, file, environment and signals and does nothing else.
package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/buildinfo"
	"github.com/goinquest/inquest/internal/program"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case corepattern.CommandPipe, corepattern.CommandGuardian, corepattern.CommandTrial:
			// A process is held until these are done, so nothing comes before them.
			os.Exit(runCoreHelper(os.Args[1], os.Args[2:]))
		}
	}
	program.Main("agent", run)
}

// commands are the subcommands that people call.
var commands = map[string]func(ctx context.Context, args []string, stdout io.Writer) error{
	"targets":       runTargets,
	"setup-cores":   runSetupCores,
	"doctor":        runDoctor,
	"restore-cores": runRestoreCores,
}

// run is the whole program. It returns when ctx has ended and everything has
// stopped, or when the agent cannot start.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && commands[args[0]] != nil {
		return commands[args[0]](ctx, args[1:], stdout)
	}
	o, done, err := parse(args, os.Environ(), stdout)
	if done || err != nil {
		return err
	}
	log, level := o.Log.Logger(stderr)
	for _, w := range o.set.Warnings() {
		log.Warn(w)
	}
	if limit := program.LimitMemory(80, 25); limit > 0 {
		log.Debug("soft memory limit set", "bytes", limit)
	}
	client, err := o.client()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.Spool), 0o700); err != nil {
		return err
	}
	a, err := agent.New(agent.Options{
		Collector:       o.Collector,
		HTTPClient:      client,
		TokenFile:       o.TokenFile,
		SpoolDir:        o.Spool,
		SpoolQuotaBytes: o.SpoolQuota,
		UploadRateBytes: o.UploadRate,
		CoreQuotaBytes:  o.CoreQuota,
		CoreMinFree:     o.minFree(),
		CoreRateBytes:   o.CoreRate,
		CoresDir:        o.CoresDir,
		Host:            o.Hostname,
		Version:         buildinfo.Read().Version,
		Config:          o.Config,
		Logger:          log,
	})
	if err != nil {
		return o.usage(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), o.ShutdownTimeout)
		defer cancel()
		a.Stop(ctx)
	}()
	// The agent must outlive ctx to ship what it has; Stop ends it.
	if err := a.Start(context.Background()); err != nil {
		return o.usage(err)
	}
	log.Info("agent started", inquest.LogAgent, a.ID(), "collector", o.Collector, "spool", o.Spool)
	serve(ctx, a, o, log, level)
	return nil
}

// serve waits until ctx ends, and reloads on SIGHUP.
func serve(ctx context.Context, a *agent.Agent, o *options, log *slog.Logger, level *slog.LevelVar) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			log.Info("stopping")
			return
		case <-hangup:
			reload(a, o, log, level)
		}
	}
}

// reloadable are the settings that take effect without a restart.
var reloadable = []string{"config", "log-level", "self-profile", "upload-binaries", "capture-crashes"}

// reload reads the configuration again. When the new one is wrong, the old
// one stays.
func reload(a *agent.Agent, o *options, log *slog.Logger, level *slog.LevelVar) {
	next, _, err := parse(o.args, os.Environ(), nil)
	if err == nil {
		err = a.Reload(next.Config)
	}
	if err != nil {
		log.Error("configuration not reloaded, the old one stays", inquest.LogErr, err)
		return
	}
	if fixed := o.set.Changed(next.set, reloadable...); fixed != nil {
		log.Warn("changed settings need a restart", "settings", fixed)
	}
	level.Set(next.Log.SlogLevel())
	log.Info("configuration reloaded", "file", next.set.File())
}
