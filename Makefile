# klein.cpp: `make image` draws a picture, `make test` runs every test. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help

# The README's first picture. README.md shows the same words (tests/e2e/readme_test.py).
PROMPT ?= a rocket on a navy to purple gradient
SEED ?= 7
OUTPUT ?= out.png

ifdef CUDA
preset := cuda
program := build/cuda/klein
venv := .venv-cuda
setup := tools/setup.sh --cuda
else
preset := release
program := build/klein
venv := .venv
setup := tools/setup.sh
endif
# Where the system's CMake is too old, the set-up puts one here.
export PATH := $(CURDIR)/$(venv)/bin:$(PATH)

SECONDS ?= 600

.PHONY: help image test build gallery demo-eval dev tidy asan fuzz format check install clean setup

help:  ## This list
	@echo "make image [CUDA=1]      set up, build, draw the README's picture to $(OUTPUT)"
	@echo "make test [CUDA=1]       set up, build, run every test"
	@echo "make build [CUDA=1]      set up and build $(program)"
	@echo "make dev                 debug build, warnings are errors, then every test"
	@echo "make asan                the same with address and undefined-behaviour sanitizers"
	@echo "make tidy                clang-tidy over every file"
	@echo "make fuzz [SECONDS=600]  every reader of files, so long each, on hostile input"
	@echo "make format              lay out every C++ file anew"
	@echo "make gallery [CUDA=1]    draw the pictures of docs/gallery.md anew"
	@echo "make demo-eval [CUDA=1]  draw all held-out captions and edits, and judge them: the model card's tables"
	@echo "make install [PREFIX=D]  library, headers, program and demo model [/usr/local]"
	@echo "make clean               remove build/; the Python environment stays"

setup:
	@$(setup)

build: setup
	@cmake --preset $(preset) >/dev/null
	@cmake --build --preset $(preset) --target klein_program

image: build
	$(program) generate "$(PROMPT)" --model demo --seed $(SEED) --output $(OUTPUT) --overwrite

test:
	@$(setup) --test
	@cmake --preset $(preset) >/dev/null
	@cmake --build --preset $(preset)
	@ctest --preset $(preset)

dev asan:
	@tools/setup.sh --test
	@cmake --workflow --preset $@

tidy:
	@tools/setup.sh --tidy
	@cmake --workflow --preset tidy

fuzz:
	@tools/setup.sh --fuzz
	@cmake --preset fuzz >/dev/null
	@cmake --build --preset fuzz
	@tools/fuzz.sh $(SECONDS)

gallery: build
	@$(setup) --test
	@$(venv)/bin/python tools/gallery.py $(program) docs/gallery.md

demo-eval: build
	@$(setup) --test
	@$(venv)/bin/python -B tools/demo_model/demo_eval.py $(program)
	@$(venv)/bin/python -B tools/demo_model/demo_eval.py $(program) --model models/demo-kv --cases heldout_edits --out build/demo-eval-kv
	@$(venv)/bin/python -B tools/demo_model/demo_eval.py $(program) --model models/demo-base --cases heldout --every 6 \
		--out build/demo-eval-base --flags --steps 20 --guidance 2

format:
	@tools/setup.sh --test
	@tools/check_format.py --fix

PREFIX ?= /usr/local
install: build
	@cmake -DCMAKE_INSTALL_PREFIX="$(PREFIX)" build/$(preset) >/dev/null
	@cmake --build --preset $(preset) --target klein_program
	@cmake --install build/$(preset) --prefix "$(PREFIX)"

clean:
	rm -rf build
