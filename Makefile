# `make demo` and `make test` do all their own set-up. They need Python >= 3.11, make, and a package index for pip
# (whichever one pip is configured with).
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough; `make demo PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
TEST_VENV := .venv-test
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-input

# Installed before everything else, and by its exact public version: where pip is configured with a CPU build of torch
# (2.13.0+cpu), `==2.13.0` selects it, because a local version ranks above the public one. A range would take whatever
# is newest, which on Linux means gigabytes of CUDA libraries. To get torch in any other way: make test TORCH=...
TORCH ?= torch==2.13.0
# A requirement (or wheel) of TensorRT for the environment of tests, where plans are to be built; its libraries are
# gigabytes, so nothing takes it by itself: make plans TENSORRT='tensorrt>=11,<12'. Once asked for, it stays.
ifeq ($(TENSORRT),)
TENSORRT := $(shell sed -n 2p $(TEST_VENV)/.installed 2>/dev/null)
endif
# One thread per process: the tests run in two processes, and the machine may have two cores.
TEST_ENV := OMP_NUM_THREADS=1
PYTEST_ARGS ?= -n 2

SOURCES := $(wildcard *.py */*.py */*/*.py */*/*/*.py runtime/*/*.html runtime/assets/*.onnx)

.PHONY: help demo test test-all test-gpu lint format types check models bench performance compare doctor plans bench-gpu against wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## Transcribe the example with the bundled model
	@echo "The hits in examples/groove.flac:"
	@$(VENV)/bin/rt-transcribe examples/groove.flac
	@echo "The same as a MIDI file:"
	@$(VENV)/bin/rt-transcribe examples/groove.flac --output demo.mid
	@echo "To hear it, open $(CURDIR)/demo.mid in a player or a drum sampler."

test: $(TEST_VENV)/.installed  ## Run the tests (not those marked slow or gpu)
	$(TEST_ENV) $(TEST_VENV)/bin/python -m pytest $(PYTEST_ARGS)

test-all: $(TEST_VENV)/.installed  ## Run the slow tests too
	$(TEST_ENV) $(TEST_VENV)/bin/python -m pytest $(PYTEST_ARGS) -m "not gpu"

lint: $(TEST_VENV)/.installed  ## Formatting and lint rules, checked
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/ruff check .

format: $(TEST_VENV)/.installed  ## Formatting and lint rules, applied
	$(TEST_VENV)/bin/ruff check --fix .
	$(TEST_VENV)/bin/ruff format .

types: $(TEST_VENV)/.installed  ## mypy on the whole package, strict on the runtime and the command line
	$(TEST_VENV)/bin/mypy

check: lint types test  ## lint, types, test: what CI runs

# From data to the two bundled models, as docs/courses.md tells. Every line goes on where it was stopped.
# DATA holds the folders kits, grooves and backing.
DATA ?= data
SOUNDS_OF = --kits $(1)/kits --grooves $(DATA)/grooves --backing $(1)/backing --cache runs/cache
RENDERS := $(call SOUNDS_OF,$(DATA))
# Of the blocks: bf16 where the processor has instructions for it, otherwise make models PRECISION=no.
PRECISION ?= bf16
KEPT := --store runs/store --precision $(PRECISION)
TRAINING := $(RENDERS) $(KEPT)
GHOSTNOTE := OMP_NUM_THREADS=1 $(TEST_VENV)/bin/ghostnote

# RECORDINGS holds drums, mix and annotations of tracks to read thresholds off; none: validation renders.
CALIBRATION := $(if $(RECORDINGS),$(foreach kind,drums mix,--audio $(RECORDINGS)/$(kind)) --labels $(RECORDINGS)/annotations,$(RENDERS))
# Of the later courses: the same folders with the sounds of more packs, which PACKS holds (docs/courses.md).
PACKS ?= packs
SOUNDS := runs/sounds
SPOKEN := runs/sounds-and-speech
RICHER := $(call SOUNDS_OF,$(SOUNDS)) $(KEPT)
RICHEST := $(call SOUNDS_OF,$(SPOKEN)) $(KEPT)
STRUMMED := runs/sounds-speech-and-guitars
WITH_MUSIC := $(call SOUNDS_OF,$(STRUMMED)) $(KEPT) --corpus-share 0.25
# Music that nobody labelled, a folder of PACKS for each source: HEARD, HEARD_AGAIN and HEARD_LATER hold it with labels
# of the model so far.
HEARD := runs/heard
HEARD_AGAIN := runs/heard-again
HEARD_LATER := runs/heard-later
MUSIC := muldjord sectoid redeclipse supertuxkart
MORE_MUSIC := $(MUSIC) marsshooter blobwars naev ufoai
LATER_MUSIC := marsshooter_2 blobwars_2 naev_2 ufoai_2
LICENCE_muldjord := CC BY-SA 3.0
LICENCE_sectoid := MIT
LICENCE_redeclipse := CC BY-SA 3.0
LICENCE_supertuxkart := CC BY-SA 3.0 and 4.0
LICENCE_marsshooter := CC BY-SA 3.0
LICENCE_blobwars := CC BY-SA 3.0 and CC BY 3.0
LICENCE_naev := CC BY-SA 3.0 and CC BY 3.0
LICENCE_ufoai := CC BY-SA 3.0, CC BY 3.0 and public domain
$(foreach source,$(LATER_MUSIC),$(eval LICENCE_$(source) := $(LICENCE_$(source:_2=))))
# $(call labelled,FOLDER,SOURCES,MODEL): copies of the sources, labelled by the model; $(call heard,FOLDER,SOURCES): the
# options to train on them.
labelled = mkdir -p $(1) $(foreach source,$(2),&& { [ -d $(1)/$(source) ] \
	|| { rm -rf $(1)/.part && cp -r $(PACKS)/$(source) $(1)/.part && mv $(1)/.part $(1)/$(source); }; } \
	&& $(GHOSTNOTE) label-recordings $(3) $(1)/$(source) --licence "$(LICENCE_$(source))")
heard = $(foreach source,$(2),--corpus heard=$(1)/$(source))
# Courses on stems and mixes: the later ones hear other renders (--seed) and begin at one delay.
FIRST := $(TRAINING) --distinct 2000
SECOND := $(TRAINING) --distinct 3000 --seed 1
LATE := --learning-rate 1e-3 --margin-ms 1.5
THIRD := $(TRAINING) --distinct 2000 --seed 2 $(LATE)
FOURTH := $(TRAINING) --distinct 4500 --seed 3 --margin-ms 1.5
FIFTH := $(TRAINING) --distinct 1400 --seed 4 --margin-ms 1.5
SIXTH := $(TRAINING) --distinct 3800 --seed 5 --margin-ms 1.5
POLISH := --steps 500 --learning-rate 5e-4 --margin-ms 1.5
SEVENTH := $(TRAINING) --distinct 5000 --seed 6 --margin-ms 1.5
EIGHTH := $(TRAINING) --distinct 5000 --seed 7 --margin-ms 1.5
NINTH := $(TRAINING) --distinct 1000 --seed 8 --margin-ms 1.5
TENTH := $(TRAINING) --distinct 2400 --seed 9 --margin-ms 1.5
ELEVENTH := $(TRAINING) --distinct 900 --seed 10 --margin-ms 1.5
TWELFTH := $(TRAINING) --distinct 4000 --seed 11 --margin-ms 1.5
THIRTEENTH := $(TRAINING) --distinct 1500 --seed 12 --margin-ms 1.5
FOURTEENTH := $(TRAINING) --distinct 4000 --seed 13 --margin-ms 1.5
FIFTEENTH := $(TRAINING) --distinct 1800 --seed 15 --margin-ms 1.5
SIXTEENTH := $(TRAINING) --distinct 2600 --seed 16 --margin-ms 1.5
SEVENTEENTH := $(RICHER) --distinct 1300 --seed 17 --margin-ms 1.5
EIGHTEENTH := $(RICHEST) --distinct 1300 --seed 18 --margin-ms 1.5
NINETEENTH := $(WITH_MUSIC) --distinct 1300 --seed 19 --margin-ms 1.5 $(call heard,$(HEARD),$(MUSIC))
TWENTIETH := $(WITH_MUSIC) --distinct 800 --seed 20 --margin-ms 1.5 $(call heard,$(HEARD_AGAIN),$(MORE_MUSIC))
TWENTYFIRST := $(WITH_MUSIC) --distinct 1200 --seed 20 --margin-ms 1.5 $(call heard,$(HEARD_AGAIN),$(MORE_MUSIC)) $(call heard,$(HEARD_LATER),$(LATER_MUSIC))
# Both begin narrower and are widened for their later courses.
SLIM := --preset slim
NARROW := --preset narrow --teacher

$(SOUNDS)/.imported: | $(TEST_VENV)/.installed
	rm -rf $(SOUNDS) && mkdir -p $(SOUNDS) && cp -r $(DATA)/kits $(DATA)/backing $(SOUNDS) && chmod -R u+w $(SOUNDS)
	$(GHOSTNOTE) import-sounds $(PACKS)/BJA_Pacific $(SOUNDS) --name bja_pacific --licence "CC BY-SA 3.0 US"
	$(GHOSTNOTE) import-sounds $(PACKS)/FluidR3_GM.sf2 $(SOUNDS) --name fluid --licence MIT
	$(GHOSTNOTE) import-sounds $(PACKS)/MuseScore_General_Full.sf2 $(SOUNDS) --name musescore --licence MIT
	touch $@

$(SPOKEN)/.imported: $(SOUNDS)/.imported
	rm -rf $(SPOKEN) && cp -r $(SOUNDS) $(SPOKEN)
	$(GHOSTNOTE) import-sounds $(PACKS)/OPL-3_FM_128M.sf2 $(SPOKEN) --name opl3 --licence "CC BY-SA 4.0"
	$(GHOSTNOTE) import-sounds $(PACKS)/sf_GMbank.sf2 $(SPOKEN) --name gmbank --licence "public domain"
	for voices in asterisk_en asterisk_es asterisk_fr 0ad_voices; do \
		$(GHOSTNOTE) import-sounds $(PACKS)/$$voices $(SPOKEN) --name $$voices --licence "CC BY-SA 3.0" || exit; \
	done
	for voices in asterisk_it asterisk_ru; do \
		$(GHOSTNOTE) import-sounds $(PACKS)/$$voices $(SPOKEN) --name $$voices --licence "CC BY 3.0" || exit; \
	done
	touch $@

$(STRUMMED)/.imported: $(SPOKEN)/.imported
	rm -rf $(STRUMMED) && cp -r $(SPOKEN) $(STRUMMED)
	$(GHOSTNOTE) import-sounds $(PACKS)/muldjord_guitars $(STRUMMED) --name muldjord_guitars --licence "CC BY-SA 3.0"
	$(GHOSTNOTE) import-sounds $(PACKS)/sectoid_guitars $(STRUMMED) --name sectoid_guitars --licence MIT
	touch $@

models: $(TEST_VENV)/.installed $(STRUMMED)/.imported  ## Train, calibrate and export the bundled models (hours)
	$(GHOSTNOTE) train runs/base-1 $(SLIM) $(TRAINING) --recipe solo --steps 1200 --distinct 600
	$(GHOSTNOTE) train runs/base-2 $(SLIM) $(FIRST) --init runs/base-1/best.pt --steps 8000
	$(GHOSTNOTE) train runs/base-3 $(SLIM) $(SECOND) --init runs/base-2/best.pt --steps 6000 --one-delay-steps 2000
	$(GHOSTNOTE) train runs/base-4 $(SLIM) $(SECOND) $(POLISH) --init runs/base-3/best.pt
	$(GHOSTNOTE) train runs/base-5 $(SLIM) $(THIRD) --init runs/base-4/best.pt --steps 2000 --one-delay-steps 600
	$(GHOSTNOTE) average runs/base-4/best.pt runs/base-5/best.pt -o runs/base-mean-5.pt
	$(GHOSTNOTE) train runs/base-6 $(SLIM) $(FOURTH) --init runs/base-mean-5.pt --steps 4500 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-5.pt runs/base-6/best.pt runs/base-6/best.pt -o runs/base-mean-6.pt
	$(GHOSTNOTE) train runs/base-7 $(SLIM) $(FIFTH) --init runs/base-mean-6.pt --steps 1400 --learning-rate 8e-4
	$(GHOSTNOTE) average runs/base-mean-6.pt runs/base-7/best.pt -o runs/base-mean-7.pt
	$(GHOSTNOTE) train runs/base-8 $(SLIM) $(SIXTH) --init runs/base-mean-7.pt --steps 3800 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-6.pt runs/base-7/best.pt runs/base-8/best.pt -o runs/base-mean-8.pt
	$(GHOSTNOTE) train runs/base-9 $(SLIM) $(SEVENTH) --init runs/base-mean-8.pt --steps 1000 --learning-rate 8e-4
	$(GHOSTNOTE) average runs/base-mean-8.pt runs/base-9/best.pt -o runs/base-mean-9.pt
	$(GHOSTNOTE) train runs/base-10 $(SLIM) $(EIGHTH) --init runs/base-mean-9.pt --steps 1400 --learning-rate 8e-4
	$(GHOSTNOTE) average runs/base-mean-9.pt runs/base-10/best.pt -o runs/base-mean-10.pt
	$(GHOSTNOTE) train runs/base-11 $(SLIM) $(TENTH) --init runs/base-mean-10.pt --steps 2400 --learning-rate 1e-3
	$(GHOSTNOTE) average runs/base-mean-10.pt runs/base-11/best.pt -o runs/base-mean-11.pt
	$(GHOSTNOTE) train runs/base-12 $(SLIM) $(TWELFTH) --init runs/base-mean-11.pt --steps 2600 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/base-mean-11.pt runs/base-12/best.pt -o runs/base-mean-12.pt
	$(GHOSTNOTE) train runs/base-13 $(TWELFTH) --init runs/base-mean-12.pt --steps 3400 --learning-rate 1.5e-3
	$(GHOSTNOTE) train runs/base-14 $(THIRTEENTH) --init runs/base-13/best.pt --steps 2700 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/base-13/best.pt runs/base-14/best.pt runs/base-14/best.pt runs/base-14/best.pt -o runs/base-mean-14.pt
	$(GHOSTNOTE) train runs/base-15 $(FOURTEENTH) --init runs/base-mean-14.pt --steps 7000 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-14.pt runs/base-15/best.pt runs/base-15/best.pt runs/base-15/best.pt -o runs/base-mean-15.pt
	$(GHOSTNOTE) train runs/base-16 $(FIFTEENTH) --init runs/base-mean-15.pt --steps 1750 --learning-rate 7e-4
	$(GHOSTNOTE) average runs/base-mean-15.pt runs/base-16/best.pt runs/base-16/best.pt runs/base-16/best.pt -o runs/base-mean-16.pt
	$(GHOSTNOTE) train runs/base-17 $(SIXTEENTH) --init runs/base-mean-16.pt --steps 4800 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-16.pt runs/base-17/best.pt -o runs/base-mean-17.pt
	$(GHOSTNOTE) train runs/base-18 $(SEVENTEENTH) --init runs/base-mean-17.pt --steps 2550 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-17.pt runs/base-18/best.pt -o runs/base-mean-18.pt
	$(GHOSTNOTE) train runs/base-19 $(EIGHTEENTH) --init runs/base-mean-18.pt --steps 2500 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-18.pt runs/base-19/best.pt -o runs/base-mean-19.pt
	$(call labelled,$(HEARD),$(MUSIC),runs/base-mean-19.pt)
	$(GHOSTNOTE) train runs/base-20 $(NINETEENTH) --init runs/base-mean-19.pt --steps 2900 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-19.pt runs/base-20/best.pt -o runs/base-mean-20.pt
	$(call labelled,$(HEARD_AGAIN),$(MORE_MUSIC),runs/base-mean-20.pt)
	$(GHOSTNOTE) train runs/base-21 $(TWENTIETH) --init runs/base-mean-20.pt --steps 1500 --learning-rate 1.5e-3
	$(GHOSTNOTE) average runs/base-mean-20.pt runs/base-21/best.pt -o runs/base.pt
	$(call labelled,$(HEARD_LATER),$(LATER_MUSIC),runs/base.pt)
	$(GHOSTNOTE) train runs/small-1 $(FIRST) $(NARROW) runs/base-2/best.pt --steps 4000 --one-delay-steps 1500
	$(GHOSTNOTE) train runs/small-2 $(FIRST) $(NARROW) runs/base-2/best.pt $(POLISH) --init runs/small-1/best.pt
	$(GHOSTNOTE) train runs/small-3 $(SECOND) $(NARROW) runs/base-3/best.pt --init runs/small-2/best.pt --steps 3500
	$(GHOSTNOTE) train runs/small-4 $(SECOND) $(NARROW) runs/base-3/best.pt $(POLISH) --init runs/small-3/best.pt
	$(GHOSTNOTE) train runs/small-5 $(THIRD) $(NARROW) runs/base-mean-5.pt --init runs/small-4/best.pt --steps 900
	$(GHOSTNOTE) train runs/small-6 $(THIRD) $(NARROW) runs/base-mean-5.pt --init runs/small-5/best.pt --steps 4000
	$(GHOSTNOTE) train runs/small-7 $(SECOND) $(LATE) $(NARROW) runs/base-mean-5.pt --init runs/small-6/best.pt --steps 2800
	$(GHOSTNOTE) train runs/small-8 $(FOURTH) $(NARROW) runs/base-6/best.pt --init runs/small-7/best.pt --steps 3500 --learning-rate 1e-3
	$(GHOSTNOTE) average runs/small-6/best.pt runs/small-7/best.pt -o runs/small-mean-7.pt
	$(GHOSTNOTE) train runs/small-9 $(SIXTH) $(NARROW) runs/base-mean-7.pt --init runs/small-mean-7.pt --steps 3800 --learning-rate 1e-3
	$(GHOSTNOTE) average runs/small-8/best.pt runs/small-9/best.pt -o runs/small-mean-9.pt
	$(GHOSTNOTE) train runs/small-10 $(SEVENTH) --preset small --teacher runs/base-mean-8.pt --init runs/small-mean-9.pt --steps 4000 --learning-rate 1.5e-3
	$(GHOSTNOTE) train runs/small-11 $(SEVENTH) --preset small --teacher runs/base-mean-8.pt --init runs/small-10/best.pt --steps 800 --learning-rate 8e-4
	$(GHOSTNOTE) average runs/small-10/best.pt runs/small-11/best.pt -o runs/small-mean-11.pt
	$(GHOSTNOTE) train runs/small-12 $(EIGHTH) --preset small --teacher runs/base-mean-9.pt --init runs/small-mean-11.pt --steps 2200 --learning-rate 1e-3
	$(GHOSTNOTE) train runs/small-13 $(NINTH) --preset small --teacher runs/base-mean-10.pt --init runs/small-12/best.pt --steps 900 --learning-rate 6e-4
	$(GHOSTNOTE) average runs/small-12/best.pt runs/small-13/best.pt -o runs/small-mean-13.pt
	$(GHOSTNOTE) train runs/small-14 $(TENTH) --preset small --teacher runs/base-mean-10.pt --init runs/small-mean-13.pt --steps 3600 --learning-rate 1e-3
	$(GHOSTNOTE) train runs/small-15 $(ELEVENTH) --preset small --teacher runs/base-mean-11.pt --init runs/small-14/best.pt --steps 900 --learning-rate 6e-4
	$(GHOSTNOTE) average runs/small-14/best.pt runs/small-15/best.pt -o runs/small-mean-15.pt
	$(GHOSTNOTE) train runs/small-16 $(TWELFTH) --preset small --teacher runs/base-mean-12.pt --init runs/small-mean-15.pt --steps 2600 --learning-rate 1e-3
	$(GHOSTNOTE) train runs/small-17 $(THIRTEENTH) --preset small --teacher runs/base-13/best.pt --init runs/small-16/best.pt --steps 1100 --learning-rate 8e-4
	$(GHOSTNOTE) train runs/small-18 $(FOURTEENTH) --preset small --teacher runs/base-mean-14.pt --init runs/small-17/best.pt --steps 4000 --learning-rate 1.2e-3
	$(GHOSTNOTE) train runs/small-19 $(FIFTEENTH) --preset small --teacher runs/base-mean-15.pt --init runs/small-18/best.pt --steps 1600 --learning-rate 8e-4
	$(GHOSTNOTE) average runs/small-18/best.pt runs/small-19/best.pt -o runs/small-mean-19.pt
	$(GHOSTNOTE) train runs/small-20 $(SEVENTEENTH) --preset small --teacher runs/base-mean-17.pt --init runs/small-mean-19.pt --steps 1900 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/small-mean-19.pt runs/small-20/best.pt runs/small-20/best.pt runs/small-20/best.pt -o runs/small-mean-20.pt
	$(GHOSTNOTE) train runs/small-21 $(EIGHTEENTH) --preset small --teacher runs/base-mean-18.pt --init runs/small-mean-20.pt --steps 1850 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/small-mean-20.pt runs/small-21/best.pt runs/small-21/best.pt runs/small-21/best.pt -o runs/small-mean-21.pt
	$(GHOSTNOTE) train runs/small-22 $(NINETEENTH) --preset small --teacher runs/base-mean-19.pt --init runs/small-mean-21.pt --steps 2500 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/small-mean-21.pt runs/small-22/best.pt -o runs/small-mean-22.pt
	$(GHOSTNOTE) train runs/small-23 $(TWENTIETH) --preset small --teacher runs/base-mean-20.pt --init runs/small-mean-22.pt --steps 1200 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/small-mean-22.pt runs/small-23/best.pt runs/small-23/best.pt runs/small-23/best.pt -o runs/small-mean-23.pt
	$(GHOSTNOTE) train runs/small-24 $(TWENTYFIRST) --preset small --teacher runs/base.pt --init runs/small-mean-23.pt --steps 1700 --learning-rate 1.2e-3
	$(GHOSTNOTE) average runs/small-mean-23.pt runs/small-24/best.pt -o runs/small.pt
	$(GHOSTNOTE) calibrate runs/base.pt -o checkpoints/base.pt --half --licence Apache-2.0 $(CALIBRATION)
	$(GHOSTNOTE) calibrate runs/small.pt -o checkpoints/small.pt --half --licence Apache-2.0 $(CALIBRATION)
	$(GHOSTNOTE) export checkpoints/base.pt --target onnx --out runtime/assets
	$(GHOSTNOTE) export checkpoints/small.pt --target onnx --out runtime/assets

# Documents of the suites; a folder of benchmarks/baselines/ where they are to be kept.
OUT ?= runs/bench
# The first is the one of the README.
BASELINES := benchmarks/baselines/epyc-avx512 $(filter-out %/epyc-avx512/,$(wildcard benchmarks/baselines/*/))

bench: $(TEST_VENV)/.installed  ## latency, throughput, memory, accuracy of both models, streams of small, training of base; ten minutes: documents and a page in OUT
	$(GHOSTNOTE) bench all $(OUT) --page $(OUT)/performance.md

performance: $(TEST_VENV)/.installed  ## docs/performance.md and the README's table from benchmarks/baselines
	$(GHOSTNOTE) bench page $(BASELINES) --out docs/performance.md --readme README.md

compare: $(TEST_VENV)/.installed  ## Two builds side by side: make compare BASE=main HEAD=HEAD
	$(GHOSTNOTE) bench compare $(BASE) $(HEAD) $(if $(TABLE),--markdown $(TABLE))

doctor: $(TEST_VENV)/.installed  ## What this machine can run and build
	$(GHOSTNOTE) doctor

test-gpu: $(TEST_VENV)/.installed  ## The tests that need a GPU
	$(TEST_ENV) $(TEST_VENV)/bin/python -m pytest -m gpu

plans: $(TEST_VENV)/.installed  ## TensorRT plans of the bundled models for this GPU, verified, in OUT/plans
	mkdir -p $(OUT)/plans
	for model in base small; do for precision in fp32 fp16; do \
		$(GHOSTNOTE) export checkpoints/$$model.pt --target tensorrt --precision $$precision --out $(OUT)/plans || exit; \
	done; done

bench-gpu: $(TEST_VENV)/.installed  ## Calls of many sizes on this GPU, with PyTorch and OUT/plans, against its limits; documents in OUT
	$(GHOSTNOTE) bench gpu $(OUT) $(foreach plan,$(wildcard $(OUT)/plans/*.plan),--engine $(plan))

against: $(TEST_VENV)/.installed  ## OUT against the stored documents of the same machine and clocks
	$(GHOSTNOTE) bench against $(OUT) $(if $(TABLE),--markdown $(TABLE))

wheel: $(TEST_VENV)/.installed  ## Build the wheel into dist/
	rm -rf build
	$(TEST_VENV)/bin/python -m build --wheel --no-isolation

clean:  ## Remove environments, build products and caches
	rm -rf $(VENV) $(TEST_VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo.mid

define make_venv
@test -n "$(PYTHON)" || { echo "ghostnote needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python." >&2; exit 1; }
@echo "Setting up $(1) (once; takes a minute or two) ..."
@$(PYTHON) -m venv --clear $(1) || { echo "python -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
endef

# Installed as a user would, not in place; therefore again whenever a source file changes. `build` is removed first:
# setuptools would pick up modules that no longer exist.
$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	@rm -rf build
	@$(VENV)/bin/python $(PIP_INSTALL) '.[cpu]'
	@touch $@

$(VENV)/.created: pyproject.toml
	$(call make_venv,$(VENV))
	@touch $@

# The stamp holds what was asked for, a line each; it is made anew when that is something else now.
export TORCH TENSORRT
ifneq ($(strip $(shell cat $(TEST_VENV)/.installed 2>/dev/null)),$(strip $(TORCH) $(TENSORRT)))
$(TEST_VENV)/.installed: FORCE
endif
$(TEST_VENV)/.installed: pyproject.toml
	$(call make_venv,$(TEST_VENV))
	@$(TEST_VENV)/bin/python $(PIP_INSTALL) $(TORCH)
	@$(TEST_VENV)/bin/python $(PIP_INSTALL) -e '.[dev]' $(if $(TENSORRT),'$(TENSORRT)')
	@printf '%s\n' "$$TORCH" "$$TENSORRT" > $@

FORCE:
