# Thin names for plain go commands; nothing here is needed to build or test.

GO ?= go
FUZZTIME ?= 10s
BENCHFLAGS ?= -profiles 20000

.PHONY: build test lint bench fuzz

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

fuzz:
	.ci/fuzz $(FUZZTIME)
