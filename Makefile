# raptor-make. The targets that people use:
#
#   make build      bin/raptor and bin/raptor-make
#   make install    the two to $(DESTDIR)$(PREFIX)/bin
#   make demo       the demonstration: a live ISO, a disk image and a tarball
#   make test       everything that a change has to pass
#   make soak       the long forms of the tests (hours)
#   make bench      figures, side by side with other programs
#   make fuzz       every fuzz target for FUZZTIME
#   make lint
#
# demo, test, soak and bench install what they need (Debian, Ubuntu).

PREFIX ?= /usr/local
FUZZTIME ?= 1m

export CGO_ENABLED = 0
FLAGS := -trimpath -ldflags="-s -w"

# What raptor has embedded, each beside its directory.
HELPERS := sandbox/agent internal/images/fetcher

# A recipe's first line sets PATH to a Go that is new enough.
setup = set -e; go_dir=$$(.ci/setup $(1)); export PATH="$$go_dir:$$PATH"

.PHONY: build install demo test soak bench fuzz lint clean

build:
	@$(call setup,build); $(MAKE) --no-print-directory binaries

.PHONY: binaries
binaries:
	@for helper in $(HELPERS); do \
		new=$$helper.bin.$$$$; go build $(FLAGS) -o $$new ./$$helper || exit; \
		if cmp -s $$new $$helper.bin; then rm -f $$new; else mv -f $$new $$helper.bin; fi; \
	done
	@mkdir -p bin
	@go build $(FLAGS) -tags raptor_embed -o bin/ ./cmd/raptor ./cmd/raptor-make

install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install bin/raptor bin/raptor-make $(DESTDIR)$(PREFIX)/bin

demo:
	@$(call setup,demo); $(MAKE) --no-print-directory binaries
	@bin/raptor-make --directory examples/debian-live all
	@echo
	@echo 'Boot one, and log in as root with the password "raptor" (Ctrl-A X ends it):'
	@echo '  qemu-system-x86_64 -m 2G -nographic -cdrom examples/debian-live/live.iso'
	@echo '  qemu-system-x86_64 -m 2G -nographic -drive format=raw,file=examples/debian-live/disk.img'

test:
	@$(call setup,test); .ci/test

soak:
	@$(call setup,test); .ci/test soak

bench:
	@$(call setup,bench); .ci/bench

fuzz:
	@$(call setup,build); .ci/fuzz $(FUZZTIME)

lint:
	@$(call setup,build); go vet ./... && go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0 run

clean:
	rm -rf bin $(HELPERS:=.bin)
