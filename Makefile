# Thin names for plain go commands; nothing here is needed to build or test.

GO ?= go
FUZZTIME ?= 10s
BENCHFLAGS ?= -profiles 20000

.PHONY: build test lint bench bench-capture pgo fuzz

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test:
	$(GO) test ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l . >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

bench:
	$(GO) test -run '^$$' -bench . ./...
	$(GO) run ./internal/bench $(BENCHFLAGS)

# What it costs to take cores. As root: it takes the host's core_pattern for a few minutes.
bench-capture:
	$(GO) run ./internal/bench -workload capture $(BENCHFLAGS)

# What the compiler optimizes the collector by: its CPU profile under the standard workload.
pgo:
	$(GO) run ./internal/bench -workload standard -record cmd/collector/default.pgo

fuzz:
	.ci/fuzz $(FUZZTIME)
