# make test    everything that must pass: lint, all tests of all modules under the race detector, model, sim, fuzz-short
# make servers installs the servers that the tests of adapters start, where Debian's packages can be had; make test does it first
# make lint    gofmt, go vet, staticcheck, go mod tidy -diff, over the modules of make test
# make bench   the table of ratios; make bench-json for programs; make bench-check names what is worse than in bench/table.json, or the TABLE that it printed, and make bench-plot draws its curves and writes them into the README; make bench-engines what the fence costs on each engine, for its server and ours together
# make fuzz    every fuzz target, FUZZTIME each; make fuzz-short EXECS runs of each
# make mutants breaks the code on purpose, in one place after the other, and shows which test notices
# make sim     2,000 simulated histories of 500 steps, make test 500 of them; make sim SEED=4711 replays one
# make soak    simulated histories for SOAK, with seeds of their own
# make model   explores the protocol in every order of its steps, as it is, and then with each of the planted bugs
# make crash   kills, failed calls and power cuts on the embedded store: ROUNDS rounds, of six kills and about a hundred images of the disk each

# Every directory with a go.mod is a module, and is tested.
MODULES  := . $(patsubst %/go.mod,%,$(shell git ls-files --cached --others --exclude-standard -- '*/go.mod'))
# Those that take longest begin first, and servers are built before what starts them.
FIRST    := . store/postgres store/redis store/etcd/server store/etcd store/nats/server store/nats examples/cluster
CHECKED  ?= $(FIRST) $(filter-out $(FIRST),$(MODULES))
TOOLS    := $(CURDIR)/.ci/tools.mod
FUZZTIME ?= 30s
MINTIME  ?= 2s
ROUNDS   ?= 2000
SOAK     ?= 1h
BENCH    ?= Flush
BENCHTIME ?= 300x
SEED     ?= 0
HISTORIES ?= 2000
TESTFLAGS ?= -race -vet=off -timeout 14m
JOBS     ?= 5
# The compilers collect garbage less often: a seventh less work. The tests are run as everybody runs them.
GOBUILD  := GOGC=400 go

# Every fuzz target, as directory:name.
FUZZERS  := $(shell grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sed 's|/[^/]*:func |:|' | sort)

# How often make fuzz-short runs one: a few seconds of it. Some have numbers of their own.
EXECS           ?= 6000
EXECS_FuzzAPI   ?= 1000
EXECS_FuzzEvent ?= 2000
EXECS_FuzzFile  ?= 500

.PHONY: test race servers lint gofmt bench bench-json bench-check bench-plot bench-engines fuzz fuzz-short mutants model modelquick crash sim soak modules

# All at once, but for the compilers, which take turns: two of them would compile twice what both need. So there is a chain, each module built for
# its tests, one after the other, and then each one linted; a module's tests run as soon as it is built. (Go's test command vets, too; here lint does.)
# What one goroutine does for long, and what is to be the same each time, runs without the race detector.
test:
	@$(MAKE) --no-print-directory -j$(JOBS) -k -Otarget AFTER=built/$(lastword $(CHECKED)) LATE=lint/. \
		servers gofmt $(CHECKED:%=race/%) $(CHECKED:%=lint/%) late/sim late/fuzz-short late/modelquick

race:
	@$(MAKE) --no-print-directory -j$(JOBS) -k -Otarget $(CHECKED:%=race/%)

lint: gofmt
	@$(MAKE) --no-print-directory $(CHECKED:%=lint/%)

PREVIOUS :=
$(foreach m,$(CHECKED),$(eval built/$(m): $(PREVIOUS))$(eval PREVIOUS := built/$(m)))
PREVIOUS := $(AFTER)
$(foreach m,$(CHECKED),$(eval lint/$(m): $(PREVIOUS))$(eval PREVIOUS := lint/$(m)))

# What has no tests is not built with the race detector: that is the cluster demo, with the NATS server in it. Servers that are tools of a module are built, too.
built/%:
	@set -e; cd $*; p=$$($(call packages,or .TestGoFiles .XTestGoFiles)); if [ -n "$$p" ]; then $(GOBUILD) list -race -export -deps -test $$p >/dev/null; fi; \
		p=$$($(call packages,not (or .TestGoFiles .XTestGoFiles))); if [ -n "$$p" ]; then $(GOBUILD) list -export -deps $$p >/dev/null; fi; \
		for t in $$(go tool | grep /); do $(GOBUILD) tool -n $$t >/dev/null; done

packages = go list -f '{{if $1}}{{.ImportPath}}{{end}}' ./...

race/%: built/% servers
	@cd $* && p=$$($(call packages,or .TestGoFiles .XTestGoFiles)) && if [ -n "$$p" ]; then echo "== go test $(TESTFLAGS) in $*" && go test $(TESTFLAGS) $$p; fi

# As they are built for the tests: for another way everything that they use would be compiled once more.
lint/%:
	@echo "== go vet, staticcheck, go mod tidy -diff in $*"; set -e; cd $*; sc=$$($(GOBUILD) tool -n -modfile=$(TOOLS) staticcheck); \
		p=$$($(call packages,or .TestGoFiles .XTestGoFiles)); if [ -n "$$p" ]; then $(GOBUILD) vet -race $$p; GOGC=400 GOFLAGS=-race $$sc $$p; fi; \
		p=$$($(call packages,not (or .TestGoFiles .XTestGoFiles))); if [ -n "$$p" ]; then $(GOBUILD) vet $$p; GOGC=400 $$sc $$p; fi; \
		go mod tidy -diff

gofmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "not formatted by gofmt:"; echo "$$out"; exit 1; fi

late/%: $(LATE)
	@$(MAKE) --no-print-directory $* HISTORIES=500

# Not to where bench-json prints.
servers:
	@.ci/servers >&2

bench: servers
	cd bench && go run -tags peers .

bench-json: servers
	@cd bench && go run -tags peers . -json

# TABLE is what bench-json has printed: on another machine than that of the table that is kept here, make your own first.
TABLE ?= bench/table.json

bench-check: servers
	@cd bench && go run -tags peers . -check '$(abspath $(TABLE))'

# From a table, so that the figures, and the README, say what the numbers say that are kept beside them.
bench-plot:
	@cd bench && go run . -plot '$(CURDIR)/docs/bench' -readme '$(CURDIR)/README.md' -from '$(abspath $(TABLE))'

# Each flushes beside the engine's own best way to write as much, in turns, in one run: see internal/flushbench.
bench-engines: servers
	@set -e; for m in postgres redis nats etcd; do echo "== go test -bench in store/$$m"; (cd store/$$m && go test -run - -bench '$(BENCH)' -benchtime $(BENCHTIME) .); done

fuzz:
	@set -e; for t in $(FUZZERS); do (cd $${t%:*} && f=$${t#*:} && echo "== $$f in $${t%:*}" && \
		go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime $(MINTIME) -parallel 2 .); done

# Counted, not timed, and from the seeds alone, whatever the cache of go has: the same work on every machine. What it draws is
# another each time, so a failure is a finding that nobody made before: it is in testdata, and to be kept. So few runs need no
# coverage to guide them, for which all that they use, down to the standard library, would be built once more.
fuzz-short:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	for t in $(foreach t,$(FUZZERS),$t:$(or $(EXECS_$(lastword $(subst :, ,$t))),$(EXECS))); do (n=$${t##*:} && t=$${t%:*} && \
		cd $${t%:*} && f=$${t#*:} && echo "== $$f in $${t%:*}, $$n times" && b=$$dir/$$(echo $${t%:*} | tr /. __).test && \
		if [ ! -e $$b ]; then go test -c -o $$b .; fi && \
		$$b -test.run '^$$' -test.fuzz "^$$f\$$" -test.fuzztime $${n}x -test.fuzzminimizetime 20x -test.parallel 2 -test.fuzzcachedir $$dir); done

mutants:
	go run ./internal/mutants

modelquick:
	go test -count=1 ./internal/model

# Without the race detector: so a seed replays exactly, and it is ten times as many. With it they are part of the tests.
sim:
	go test ./internal/sim -count=1 -v -run 'TestSim$$' -args -seed=$(SEED) -histories=$(HISTORIES)

soak:
	go test ./internal/sim -count=1 -v -timeout 0 -run TestSoak -args -soak=$(SOAK)

# With a bug modelcheck must end with 1; 0 is a bug that was not found, and anything else no answer.
model:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; go build -o $$dir/modelcheck ./internal/model/cmd/modelcheck; $$dir/modelcheck; \
	for b in $$($$dir/modelcheck -bugs); do echo "== $$b"; status=0; $$dir/modelcheck -bug $$b || status=$$?; \
		if [ $$status -ne 1 ]; then echo "the bug $$b: status $$status, want 1"; exit 1; fi; done

crash:
	go test ./store/bolt -run 'TestKilled|TestPowerCuts|TestFaultAtEachCall' -v -count=1 -timeout 120m -args -bolt.rounds=$(ROUNDS)

modules:
	@echo $(MODULES)
