package load

import (
	"bytes"
	"context"
	"strconv"
	"strings"
)

// Metrics are the values of a /metrics page by name, added up over labels.
type Metrics map[string]float64

// The metrics of a collector that are used here. One that a collector does
// not have is left out of what is reported.
const (
	MetricBlockBytes  = "inquest_store_block_bytes"
	MetricRollupBytes = "inquest_store_rollup_bytes"

	metricCPU        = "process_cpu_seconds_total"
	metricRSS        = "process_resident_memory_bytes"
	metricGoHeap     = "go_memstats_heap_inuse_bytes"
	metricHeads      = "inquest_store_heads"
	metricHeadBytes  = "inquest_store_head_bytes"
	metricBlocks     = "inquest_store_blocks"
	metricLogBytes   = "inquest_store_log_bytes"
	metricLogWritten = "inquest_store_log_written_bytes_total"
	metricCatalog    = "inquest_store_catalog_bytes"
	metricPending    = "inquest_store_pending_blocks" // wait to be merged or rolled up
)

// Metrics reads what the collector says of itself.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	page, err := c.Get(ctx, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	return parseMetrics(page), nil
}

// parseMetrics reads the text format of Prometheus. Lines that are not a name
// and a value are passed over.
func parseMetrics(page []byte) Metrics {
	m := Metrics{}
	for line := range bytes.Lines(page) {
		text := string(bytes.TrimSpace(line))
		end := strings.IndexFunc(text, func(c rune) bool {
			return c != '_' && c != ':' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
		})
		if end <= 0 {
			continue
		}
		name, rest := text[:end], text[end:]
		if rest[0] == '{' { // labels, whose values may hold anything
			rest = rest[strings.LastIndexByte(rest, '}')+1:]
		}
		value, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			m[name] += v
		}
	}
	return m
}
