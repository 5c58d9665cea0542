# make start: install and run the default session.   make test: the whole default test suite.
PYTHON ?= python3
BIN := .venv/bin
YOLO := .venv-yolov5

.PHONY: start test test-yolov5 test-systemd test-nfs test-slurm stress soak bench hyperfine lint docs wheel ci tmux screen chromium slurm postgres uml clean

start: .venv/.installed tmux
	@$(BIN)/tmuxevolve start

test: .venv/.dev tmux screen chromium slurm postgres
	$(BIN)/pytest -n 4

test-yolov5: .venv/.dev $(YOLO)/.installed tmux
	TMUXEVOLVE_TEST_YOLOV5=$(CURDIR)/$(YOLO) $(BIN)/pytest -m yolov5 tests/yolov5 --timeout 900 -v -s

# Under a real systemd, in User Mode Linux: shutdown, power cut, cron, memory limits. Needs root.
test-systemd: uml
	tests/systemd/run.sh

# Jobs on a real Slurm on this machine; `make test` has them too. Needs root.
test-slurm: .venv/.dev tmux slurm
	$(BIN)/pytest -v tests/test_slurm.py

# A study over NFS proper: a kernel server and two clients, in User Mode Linux. Needs root.
test-nfs: .venv/.dev
	$(call need,linux.uml exportfs mount.nfs4 modprobe,user-mode-linux nfs-kernel-server kmod e2fsprogs)
	tests/nfs/run.sh

# Sixteen workers, 32,000 generations, killed at random; and fifty starts and stops at once.
stress: .venv/.dev
	$(BIN)/pytest -m stress tests --timeout 900 -s -v

# Twenty minutes of random faults on eight workers.
soak: .venv/.dev tmux
	cd tests && ../$(BIN)/python soak.py --seconds 1200 --seed 1

# Every comparison, side by side: prints, and writes docs/performance.md. PARTS="start stop" runs some.
bench: .venv/.dev .venv-bench/.installed $(YOLO)/.installed tmux hyperfine
	$(BIN)/python benchmarks/run.py $(PARTS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The sdist, and the wheel made from it, must install into an empty environment and work there; the
# man pages must be where `man` looks.
wheel: .venv/.dev tmux
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --outdir dist . >/dev/null
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --quiet dist/*.tar.gz
	cd / && $(CURDIR)/.venv-wheel/bin/tmuxevolve --version
	.venv-wheel/bin/pip install --quiet --force-reinstall --no-deps dist/*.whl
	cd / && $(CURDIR)/.venv-wheel/bin/tmuxevolve --version
	test -s .venv-wheel/share/man/man1/tmuxevolve.1
	test -s .venv-wheel/share/man/man1/tmuxevolve-start.1
	! command -v man >/dev/null || \
	  PATH=$(CURDIR)/.venv-wheel/bin:$$PATH env -u MANPATH man --warnings tmuxevolve-start >/dev/null
	$(CURDIR)/.venv-wheel/bin/tmuxevolve start --dry-run
	unset TMUX; export TMUX_TMPDIR=$$(mktemp -d); \
	  .venv-wheel/bin/tmuxevolve start && .venv-wheel/bin/tmuxevolve stop && rm -r $$TMUX_TMPDIR

ci: test lint docs wheel

# $(call need,COMMANDS,PACKAGES): install Debian packages when one of the commands is missing.
define need
@command -v $(1) >/dev/null && [ "$$(command -v $(1) | wc -l)" = $(words $(1)) ] || { \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(2); \
  else \
    echo "sudo apt install $(2), then run make again" >&2; exit 5; \
  fi; }
endef

tmux:
	$(call need,tmux,tmux)

# $(call want,COMMANDS,PACKAGES,WHAT): the same for what some tests are skipped without.
define want
@PATH=$$PATH:/usr/sbin; [ "$$(command -v $(1) | wc -l)" = $(words $(1)) ] || { \
  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
    apt-get install -y -qq --no-install-recommends $(2); } || \
  echo "some tests are skipped: sudo apt install $(2), for $(3)" >&2
endef

screen:
	$(call want,screen,screen,the tests of GNU screen)

chromium:
	$(call want,chromium chromedriver,chromium chromium-driver,the tests of the report)

# Debian keeps its programs beside the PATH.
postgres:
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	    apt-get install -y -qq --no-install-recommends postgresql; } || \
	  echo "some tests are skipped: sudo apt install postgresql, for the tests of evolve.storage" >&2

slurm:
	$(call want,munged slurmctld slurmd sbatch,slurm-wlm munge,the tests of Slurm)

hyperfine:
	$(call need,hyperfine,hyperfine)

uml:
	$(call need,linux.uml mmdebstrap,user-mode-linux mmdebstrap e2fsprogs)

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed: make PYTHON=python3.11" >&2; exit 5; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.dev: .venv/bin/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/.installed

# Real YOLOv5 v7.0 with a CPU's torch, in an environment of its own (several GB).
$(YOLO)/.installed: tests/yolov5/requirements.txt tests/yolov5/no-deps.txt
	$(PYTHON) -m venv $(YOLO)
	$(YOLO)/bin/pip install --quiet -r tests/yolov5/requirements.txt
	$(YOLO)/bin/pip install --quiet --no-deps -r tests/yolov5/no-deps.txt
	@touch $@

# The peers, and tmuxevolve as a user would install it: without what its tests need.
.venv-bench/.installed: benchmarks/peers.txt $(shell find tmuxevolve -name '*.py')
	test -d .venv-bench || { $(PYTHON) -m venv .venv-bench; $(PYTHON) -m venv .venv-bench/peers; }
	.venv-bench/bin/pip install --quiet .
	.venv-bench/peers/bin/pip install --quiet -r benchmarks/peers.txt
	@touch $@

clean:
	rm -rf .venv .nox .venv-wheel .venv-bench $(YOLO) dist site
