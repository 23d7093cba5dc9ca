package agent_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
	"go.yaml.in/yaml/v3"
)

func decode(t *testing.T, text string) agent.Config {
	t.Helper()
	var c agent.Config
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestConfigErrorsNameTheirPath(t *testing.T) {
	t.Parallel()
	tests := []struct{ yaml, want string }{
		{"scrape_configs: [{scheme: http}]", "scrape_configs[0].job_name: is missing"},
		{"scrape_configs: [{job_name: a}, {job_name: a}]", "scrape_configs[1].job_name: \"a\" is the name of scrape_configs[0]"},
		{"scrape_configs: [{job_name: a}, {job_name: b}, {job_name: c, scrape_interval: 10ms}]", "scrape_configs[2].scrape_interval: 10ms: want 1s to"},
		{"scrape_configs: [{job_name: a, cpu_seconds: 60}]", "scrape_configs[0].cpu_seconds: 60: want at least 1 and less than"},
		{"scrape_configs: [{job_name: a, scrape_interval: 1s}]", "scrape_configs[0].scrape_interval: 1s leaves no time"},
		{"scrape_configs: [{job_name: a, kinds: [cpu, hep]}]", "scrape_configs[0].kinds[1]: unknown kind \"hep\""},
		{"scrape_configs: [{job_name: a, kinds: [other]}]", "scrape_configs[0].kinds[0]: \"other\" is nothing"},
		{"scrape_configs: [{job_name: a, scheme: ftp}]", "scrape_configs[0].scheme: \"ftp\": want http or https"},
		{"scrape_configs: [{job_name: a, path_prefix: debug}]", "scrape_configs[0].path_prefix"},
		{"scrape_configs: [{job_name: a, static_configs: [{targets: ['http://x:1/y']}]}]", "scrape_configs[0].static_configs[0].targets[0]: \"http://x:1/y\": want host:port"},
		{"scrape_configs: [{job_name: a, static_configs: [{targets: [x], labels: {build: y}}]}]", "scrape_configs[0].static_configs[0].labels.build: the name is reserved"},
		{"scrape_configs: [{job_name: a, relabel_configs: [{action: hashmod}]}]", "scrape_configs[0].relabel_configs[0]: relabel configuration for hashmod"},
		{"scrape_configs: [{job_name: a, basic_auth: {username: u}, bearer_token_file: f}]", "scrape_configs[0].basic_auth: cannot be given beside"},
		{"scrape_configs: [{job_name: a, tls_config: {cert_file: f}}]", "scrape_configs[0].tls_config: cert_file and key_file"},
		{"scrape_configs: [{job_name: a, tls_config: {ca_file: /nonexistent}}]", "scrape_configs[0].tls_config: ca_file: open /nonexistent"},
		{"scrape_configs: [{job_name: a, max_body_bytes: -1}]", "scrape_configs[0].max_body_bytes"},
		{"host: {deny_ports: [0]}", "host.deny_ports[0]: 0: want a port"},
		{"host: {allow_names: ['[']}", "host.allow_names[0]"},
		{"host: {interval: 1ms}", "host.interval: 1ms"},
		{"host: {labels: {service: x}}", "host.labels.service: the name is reserved"},
		{"labels: {instance: x}", "labels.instance: the name is reserved"},
		{"capture: {mode: often}", "capture.mode: \"often\": want one of"},
		{"capture: {tier: some}", "capture.tier: \"some\": want none, text, mini or full"},
		{"capture: {services: [{tier: mini}]}", "capture.services[0].name: is missing"},
		{"capture: {services: [{name: a, tier: x}]}", "capture.services[0].tier: \"x\""},
		{"capture: {directories: [cores]}", "capture.directories[0]: \"cores\": want an absolute path"},
		{"capture: {allow_env: ['[']}", "capture.allow_env[0]: \"[\""},
		{"capture: {per_place: {burst: -1}}", "capture.per_place: want a positive burst"},
		{"capture: {max_hold: -1s}", "capture.max_hold: -1s"},
		{"crash_texts: {socket: here}", "crash_texts.socket: \"here\": want an absolute path"},
		{"crash_texts: {files: [a.log]}", "crash_texts.files[0]: \"a.log\": want an absolute path"},
		{"crash_texts: {units: [a.service]}", "crash_texts.units[0]: \"a.service\": want the name of a unit"},
		{"refuse: [dance]", "refuse[0]: unknown command \"dance\""},
	}
	for _, tt := range tests {
		o := agent.Options{Collector: "http://localhost:1", SpoolDir: t.TempDir(), Config: decode(t, tt.yaml)}
		a, err := agent.New(o)
		if err == nil { // what needs files is checked at the start
			err = a.Start(t.Context())
			a.Stop(t.Context())
		}
		if !errors.Is(err, inquest.ErrInvalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s\n got  %v\n want %s…", tt.yaml, err, tt.want)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	t.Parallel()
	for _, o := range []agent.Options{
		{Collector: "localhost:7070", SpoolDir: t.TempDir()},
		{Collector: "", SpoolDir: t.TempDir()},
		{Collector: "http://localhost:1"},
	} {
		if _, err := agent.New(o); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("New(%+v): %v, want invalid", o, err)
		}
	}
}

func TestUnknownKeysAreFound(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"scrape_configs: [{job_nam: a}]", "host: {ennabled: true}", "scrape_configs: [{job_name: a, file_sd_configs: [{fils: [a.json]}]}]"} {
		var c agent.Config
		dec := yaml.NewDecoder(strings.NewReader(text))
		dec.KnownFields(true)
		if err := dec.Decode(&c); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestReloadKeepsTheOldOnError(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	o := c.options(t)
	o.Config = static([]inquest.Kind{inquest.KindHeap}, "127.0.0.1:1")
	a, _ := start(t, o)
	eventually(t, "target", func() bool { return len(a.Targets()) == 1 })
	if err := a.Reload(agent.Config{Refuse: []string{"x"}}); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("reload of nonsense: %v", err)
	}
	if n := len(a.Targets()); n != 1 {
		t.Errorf("%d targets after a refused reload", n)
	}
	if err := a.Reload(static([]inquest.Kind{inquest.KindHeap}, "127.0.0.1:1", "127.0.0.1:2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "second target", func() bool { return len(a.Targets()) == 2 })
	if err := a.Reload(agent.Config{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no target", func() bool { return len(a.Targets()) == 0 })
}
