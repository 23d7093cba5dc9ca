package main

import (
	"errors"
	"log/slog"
	"os"
	"reflect"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/web"
)

// reloadable are the settings that take effect without a restart.
var reloadable = []string{"config", "log-level", "self-profile", "retention", "vulns"}

// reload reads the configuration again and puts to use what can be changed
// while running. When the new one is wrong, the old one stays.
func (c *collector) reload(level *slog.LevelVar) {
	next, _, err := parse(c.o.args, os.Environ(), nil)
	if err != nil {
		c.log.Error("configuration not reloaded, the old one stays", inquest.LogErr, err)
		return
	}
	fixed := c.o.set.Changed(next.set, reloadable...)
	if fixed != nil {
		c.log.Warn("changed settings need a restart", "settings", fixed)
	}
	if err := c.setScrape(next.Scrape); err != nil {
		c.log.Error("scrape configuration not reloaded, the old one stays", inquest.LogErr, err)
	}
	if err := c.setTokens(next); err != nil {
		c.log.Error("tokens not reloaded, the old ones stay", inquest.LogErr, err)
	}
	if err := c.store.SetRetention(next.retention()); err != nil {
		c.log.Error("retention not reloaded, the old one stays", inquest.LogErr, err)
	}
	if err := c.crashes.SetCapture(next.capture()); err != nil {
		c.log.Error("capture not reloaded, the old one stays", inquest.LogErr, err)
	}
	if err := c.vulns.read(next.Vulns); err != nil {
		c.log.Error("vulnerabilities not reloaded, the old ones stay", inquest.LogErr, err)
	}
	level.Set(next.Log.SlogLevel())
	if err := c.web.Reload(); err != nil {
		c.log.Error("certificate not reloaded, the old one stays", inquest.LogErr, err)
	}
	c.log.Info("configuration reloaded", "file", next.set.File())
}

// setTokens puts the tokens of a new configuration to use, if they are others.
func (c *collector) setTokens(next *options) error {
	if reflect.DeepEqual(c.o.Tokens, next.Tokens) {
		return nil
	}
	// Of the address that is served, which next may want to change.
	if err := web.CheckExposure(c.o.Listen, len(next.Tokens), c.o.Insecure); err != nil {
		return err
	}
	if err := c.web.SetTokens(next.webTokens()); err != nil {
		return err
	}
	c.o.Tokens = next.Tokens
	return nil
}

// usage marks an error about what the user configured, for the exit code.
func usage(err error) error {
	if errors.Is(err, inquest.ErrInvalid) {
		return settings.Errorf("%w", err)
	}
	return err
}
