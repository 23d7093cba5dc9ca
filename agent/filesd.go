package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

// fileTargets are the target groups that the files of one job hold now. The
// reading and watching is Prometheus' own.
type fileTargets struct {
	mu     sync.Mutex
	groups map[string]*targetgroup.Group // by source: file and position
}

// fileTarget is one address out of a file.
type fileTarget struct {
	address string
	labels  map[string]string
}

// fileRefresh is how often files are read although no change was seen, unless
// the configuration says: one that is made while the watch begins is not seen.
const fileRefresh = 30 * time.Second

// watch follows the files of one file_sd_configs entry until ctx ends, and
// calls changed after every change. Goroutines are added to wg.
func (ft *fileTargets) watch(ctx context.Context, wg *sync.WaitGroup, sd *file.SDConfig, a *Agent) error {
	conf := *sd
	if conf.RefreshInterval <= 0 {
		conf.RefreshInterval = model.Duration(fileRefresh)
	}
	// Prometheus' own metrics of this would clash when a job is made anew.
	metrics := conf.NewDiscovererMetrics(prometheus.NewRegistry(), nil)
	if err := metrics.Register(); err != nil {
		return fmt.Errorf("register file discovery: %w", err)
	}
	d, err := file.NewDiscovery(&conf, a.log.With("files", fmt.Sprint(conf.Files)), metrics)
	if err != nil {
		return fmt.Errorf("file discovery: %w", err)
	}
	ch := make(chan []*targetgroup.Group)
	wg.Go(func() { d.Run(ctx, ch) })
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case groups := <-ch:
				ft.set(groups)
				a.rediscover()
			}
		}
	})
	return nil
}

func (ft *fileTargets) set(groups []*targetgroup.Group) {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if ft.groups == nil {
		ft.groups = map[string]*targetgroup.Group{}
	}
	for _, g := range groups {
		if len(g.Targets) == 0 {
			delete(ft.groups, g.Source)
			continue
		}
		ft.groups[g.Source] = g
	}
}

// list returns the addresses with their labels, in the order of files.
func (ft *fileTargets) list() []fileTarget {
	ft.mu.Lock()
	defer ft.mu.Unlock()
	var out []fileTarget
	for _, source := range slices.Sorted(maps.Keys(ft.groups)) {
		g := ft.groups[source]
		for _, t := range g.Targets {
			labels := map[string]string{}
			for n, v := range g.Labels {
				labels[string(n)] = string(v)
			}
			for n, v := range t {
				labels[string(n)] = string(v)
			}
			out = append(out, fileTarget{labels[labelAddress], labels})
		}
	}
	return out
}
