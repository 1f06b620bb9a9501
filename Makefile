# make run    sets up and runs the main job on scratch directories
# make test   installs what it needs and passes all tests, kernel clients included
GO ?= go
BIN := bin/holdfast
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo development)
PACKAGES := ./...

.PHONY: all build run test unit e2e lint bench bench-recovery fuzz setup torture clean

all: build

build:
	$(GO) build -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/holdfast

setup:
	@scripts/setup

run: build
	@scripts/demo

test: setup build lint unit e2e

lint:
	@test -z "$$(gofmt -l cmd fs internal journal nfsdown nfsup)" || { gofmt -l cmd fs internal journal nfsdown nfsup; echo 'gofmt: the files above are not formatted'; exit 1; }
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)

# The journal's tests of kills and of damage are about processes and files, and take minutes under the
# race detector: they run without it, all others of the journal with it.
SLOW := Kill|Flipped|Smashed|Missing|Rot|Torn|Crashed|Backup
unit:
	$(GO) test -race -short -timeout 20m $$($(GO) list $(PACKAGES) | grep -v /journal$$)
	$(GO) test -race -short -timeout 10m -skip '$(SLOW)' ./journal
	$(GO) test -timeout 10m -run '$(SLOW)' ./journal

# Kernel clients in VMs, against the built program.
e2e: build
	@scripts/e2e

# Real servers under clients, killed, stopped, cut off, with failing disks and wrong clocks, for TIME in each
# way to run (settings_test.go), with the judge's report; stories of partitions and reboots; broken builds that
# must be caught. SEED repeats a plan.
TIME ?= 10m
SEED ?= 0
torture: build
	HOLDFAST_E2E=1 $(GO) test -count=1 -timeout 0 -v ./internal/torture -args -all -time $(TIME) -seed $(SEED)
	HOLDFAST_E2E=1 $(GO) test -count=1 -timeout 0 -v ./internal/coherence ./internal/fsx -args -time $(TIME)

bench: build
	@scripts/bench/run

# How long clients wait when the re-export server is killed and started again, and what the journal costs.
bench-recovery: build
	@scripts/bench/run recovery

# Every fuzz target for FUZZTIME.
FUZZTIME ?= 60s
fuzz:
	@scripts/fuzz $(FUZZTIME)

clean:
	rm -rf bin
