# SPDX-License-Identifier: Apache-2.0
# The short way in. Everything here only calls meson and the scripts; `make help` lists it.
BUILD   ?= build
PREFIX  ?= /usr/local
WERROR  ?= false
# After so many minutes `make check` stops and says so; about 16 are needed on two cores.
LIMIT_MIN ?= 19.5
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

all: $(BUILD)/build.ninja ## build into build/
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/install-deps build
	@meson setup $(BUILD) --prefix $(PREFIX)

deps: ## install what building, running and checking need (apt, by name; needs root)
	@scripts/install-deps build run check demo

check: ## install, build, run every suite (needs root for the guests)
	@scripts/install-deps build run check
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@scripts/check --build $(BUILD) --werror $(WERROR) --limit-min $(LIMIT_MIN)

check-long: ## what takes hours rather than minutes: races, long fuzzing
	@scripts/install-deps build run check
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@scripts/check-long

check-gpu: ## on a host with NVIDIA GPUs: what is read of them, the load (no setting is changed)
	@scripts/install-deps build
	@$(MAKE) --no-print-directory all
	@tests/gpu/check-nvml.py $(BUILD)/tests/gpu/show-nvml || [ $$? -eq 77 ]
	@tests/gpu/check-load.py $(BUILD)/src/guest/atoll-gpu-load || [ $$? -eq 77 ]

lint: ## every lint, with clang-tidy over all files
	@scripts/install-deps build check
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD)
	@ATOLL_LINT_ALL=1 scripts/check --build $(BUILD) --only lint

demo: ## the main job on three real guests, in a private daemon and state directory (needs root)
	@scripts/install-deps build run demo
	@$(MAKE) --no-print-directory all
	@demo/run

bench: ## measure, print the table, write build/bench/*.json
	@scripts/install-deps build run check bench
	@$(MAKE) --no-print-directory all
	@scripts/bench $(BUILD)

bench-vault: ## the vault beside restic, borg, casync and qemu-img (root, a Debian mirror, 30 GiB)
	@scripts/install-deps build run check bench
	@$(MAKE) --no-print-directory all
	@scripts/bench $(BUILD) vault

bench-gpu: ## placement of GPUs: time of a plan, packing, fragmentation
	@scripts/install-deps build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@ninja -C $(BUILD) tests/bench/bench-gpu
	@scripts/bench $(BUILD) gpu

install: all ## install under PREFIX (DESTDIR is honoured)
	@meson install -C $(BUILD) --no-rebuild

clean: ## remove the build directories
	rm -rf $(BUILD) build-sanitize build-thread build-fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r t d; do \
	    printf '  make %-12s %s\n' "$$t" "$$d"; done

.PHONY: all deps check check-long check-gpu lint demo bench bench-vault bench-gpu install clean help
