package agent

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/crashtext"
)

// nameTextState is where, beside the core spool, stands how far logs were read.
const nameTextState = "crash-logs"

// crashTexts gets at what processes write while they die. It goes along with
// the configuration.
type crashTexts struct {
	agent *Agent

	mu       sync.Mutex
	conf     *CrashTextConfig // in force; nil before the first start
	joiner   *crashtext.Joiner
	receiver *crashtext.Receiver // nil: no socket
	watcher  *crashtext.Watcher  // nil: nothing is read
	problem  string
}

// apply makes a configuration hold. What is wrong with the host is logged and
// reported, and no error.
func (t *crashTexts) apply(conf *CrashTextConfig) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conf != nil && reflect.DeepEqual(*t.conf, *conf) {
		return
	}
	t.end()
	t.conf, t.problem = conf, ""
	if err := t.start(conf); err != nil {
		t.problem = err.Error()
		t.agent.log.Warn("crash texts are not taken", inquest.LogErr, err)
	}
}

// start makes the parts; one that fails does not keep the other from working.
// Callers hold t.mu.
func (t *crashTexts) start(conf *CrashTextConfig) error {
	if conf.Socket == "" && !conf.watches() {
		return nil
	}
	a := t.agent
	t.joiner = crashtext.NewJoiner(0, a.crashText)
	var failed []error
	if conf.Socket != "" {
		r := crashtext.NewReceiver(crashtext.ReceiverOptions{Joiner: t.joiner, Socket: conf.Socket, Logger: a.log})
		if err := r.Start(); err != nil {
			failed = append(failed, err)
		} else {
			t.receiver = r
		}
	}
	if conf.watches() {
		o := crashtext.WatchOptions{
			Joiner: t.joiner, Files: conf.Files, Journal: conf.Journal, Units: conf.Units,
			State: filepath.Join(a.opts.SpoolDir, nameTextState), Logger: a.log,
		}
		if conf.Stderr {
			o.Processes = a.processes
		}
		w, err := crashtext.NewWatcher(o)
		if err != nil {
			failed = append(failed, err)
		} else {
			t.watcher = w
			w.Start()
		}
	}
	return errors.Join(failed...)
}

// stop ends reading; what was read is told.
func (t *crashTexts) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// end is stop for callers that hold t.mu.
func (t *crashTexts) end() {
	if t.receiver != nil {
		t.receiver.Stop()
	}
	if t.watcher != nil {
		t.watcher.Stop()
	}
	if t.joiner != nil {
		t.joiner.Close()
	}
	t.receiver, t.watcher, t.joiner = nil, nil, nil
}

// state adds to a report what is watched, and what is wrong with it.
func (t *crashTexts) state(st *inquest.CaptureState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.receiver != nil {
		st.Watched = append(st.Watched, t.conf.Socket)
	}
	if t.watcher != nil {
		st.Watched = append(st.Watched, t.watcher.Watching()...)
	}
	if t.problem != "" {
		st.Problem = strings.TrimPrefix(st.Problem+"; crash texts: "+t.problem, "; ")
	}
}

// crashText keeps the text of a death. A process that discovery knows has its
// names, as its profiles and its core have.
func (a *Agent) crashText(c inquest.Crash, text []byte) {
	c.Agent, c.Host = a.ID(), a.host
	t, known := a.captureTarget(c.PID, c.Process)
	if c.Labels == nil {
		c.Labels = t.Labels
	}
	if known && t.Service != "" {
		c.Service, c.Instance, c.Labels = t.Service, t.Instance, t.Labels
		if t.Release != "" {
			c.Release = t.Release
		}
	}
	if c.Instance == "" {
		c.Instance = a.host
	}
	if err := a.cores.Text(c, text); err != nil {
		a.log.Error("crash text could not be kept", "crash", c.ID, inquest.LogService, c.Service, inquest.LogErr, err)
	}
}
