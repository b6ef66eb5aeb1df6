# `make run` starts streamtable, `make test` checks it. Both set up what they need under .venv and
# .cache; nothing is installed outside this folder.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Twice: once still shows a warning about editable installations that is not for users.
QUIET := --quiet --quiet --disable-pip-version-check

KAFKA := .cache/kafka/.installed
ELASTICSEARCH := .cache/elasticsearch/.installed
JAVA := .cache/java/enhanced/.installed .cache/java/kcl/.installed
AIO := .cache/aiobotocore/.installed
TOXIPROXY := .cache/go/toxiproxy/server
GO := .cache/go/sdk/round
JS := tests/acceptance/js/node_modules/.package-lock.json

.PHONY: run shop test setup tools lint types docs bench clean help

run: .venv/.installed ## start a node on 127.0.0.1:8000 (ARGS="--port 8001" and so on)
	@exec $(BIN)/streamtable serve $(ARGS)

shop: .venv/.installed ## run the example shop beside `make run`: its worker, and traffic
	@exec $(BIN)/python examples/shop/run.py

# Clusters have both cores for themselves: what they promise is in seconds.
test: lint tools ## check everything: style, types, imports, all tests
ifdef PYTEST_ARGS
	$(BIN)/python -m pytest $(PYTEST_ARGS)
else
	$(BIN)/python -m pytest -m "not clusters" --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m clusters
endif

setup: .venv/.dev ## install the project and what its development needs

# The version check comes first: pip's own message about it is hard to read.
.venv/.python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "streamtable needs Python 3.11 or newer, and there is no '$(PYTHON)' here." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "streamtable needs Python 3.11 or newer, and %s is %d.%d. Name another: make PYTHON=python3.12" % (sys.executable, v[0], v[1]))'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.python pyproject.toml
	@echo "installing streamtable into .venv; this takes a minute, once"
	@$(BIN)/python -m pip install $(QUIET) --editable .
	@touch $@

# Dependency groups need pip 25.1; Python 3.11 comes with an older one.
.venv/.dev: .venv/.python pyproject.toml
	@echo "installing streamtable and what its tests need into .venv; this takes a minute, once"
	@$(BIN)/python -m pip install $(QUIET) --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install $(QUIET) --editable ".[search,tracing]" --group dev
	@touch $@ .venv/.installed

tools: .venv/.dev $(AIO) ## fetch the real servers and clients that the tests run against
	@if command -v java >/dev/null && command -v mvn >/dev/null; then $(MAKE) --no-print-directory $(KAFKA) $(ELASTICSEARCH) $(JAVA); \
	  else echo "no Java or no Maven: the tests on Apache Kafka, on Elasticsearch and with Java clients will be skipped"; fi
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(JS); \
	  else echo "no Node.js: the tests with JavaScript clients and dynamodb-admin will be skipped"; fi
	@if command -v go >/dev/null; then $(MAKE) --no-print-directory $(TOXIPROXY) $(GO); \
	  else echo "no Go: the tests with the Go SDK, with cut connections and with a checker of histories will be skipped"; fi
	@command -v kcat >/dev/null || echo "no kcat: the tests with it will be skipped"
	@command -v promtool >/dev/null || echo "no promtool: the tests of alarms and dashboard will be skipped"
	@command -v haproxy >/dev/null || echo "no haproxy: the test of its configuration will be skipped"
	@command -v kubectl >/dev/null || echo "no kubectl: the test of what kustomize builds will be skipped"
	@command -v chromium >/dev/null || \
	  echo "no chromium: the test with dynamodb-admin in a browser will be skipped"

$(KAFKA): tests/support/kafka/pom.xml
	@echo "fetching Apache Kafka for the tests"
	@mvn -q -B -Dstyle.color=never -f $< dependency:copy-dependencies -DincludeScope=runtime \
	  -DoutputDirectory=$(CURDIR)/.cache/kafka/libs
	@touch $@

$(ELASTICSEARCH): tests/support/elastic/pom.xml
	@echo "fetching Elasticsearch for the tests"
	@rm -rf $(@D)
	@mvn -q -B -Dstyle.color=never -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D)
	@cd $(@D) && $(PYTHON) -m zipfile -e *.zip . && rm *.zip
	@touch $@

$(TOXIPROXY):
	@echo "building Toxiproxy for the tests"
	@mkdir -p $(@D)
	@GOBIN=$(CURDIR)/$(@D) go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0

$(GO): tests/acceptance/go/go.mod tests/acceptance/go/go.sum tests/acceptance/go/main.go
	@echo "building a round with the Go SDK for the tests"
	@mkdir -p $(@D)
	@cd tests/acceptance/go && go build -o $(CURDIR)/$@ .

.cache/java/%/.installed: tests/acceptance/java/%/pom.xml tests/acceptance/java/%/src/main/java/*.java
	@echo "fetching AWS's Java client for the tests: $*"
	@mvn -q -B -Dstyle.color=never -f $< compile dependency:copy-dependencies \
	  -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.cache/java/$*/libs
	@touch $@

# It holds botocore back, so it is kept apart.
$(AIO): tests/acceptance/aiobotocore/requirements.txt | .venv/.dev
	@echo "fetching aiobotocore for the tests"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install $(QUIET) --no-warn-conflicts --target $(@D) \
	  --requirement $<
	@touch $@

$(JS): tests/acceptance/js/package.json tests/acceptance/js/package-lock.json
	@echo "fetching JavaScript clients and dynamodb-admin for the tests"
	@npm ci --silent --prefix tests/acceptance/js
	@touch $@

lint: .venv/.dev types ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .types/streamtable tests benchmarks examples
	cd .types && ../$(BIN)/lint-imports --config ../pyproject.toml --no-logo

# The four folders joined as an installation joins them, for tools that read packages from disk.
types:
	@mkdir -p .types/streamtable
	@find .types -xtype l -delete
	@for path in streamtable/* core streams consumers; do \
	  ln -sfn "../../$$path" ".types/streamtable/$${path##*/}"; done

docs: .venv/.dev ## write the pages that are made from the code
	$(BIN)/python -m tests.support.compatibility

bench: .venv/.dev ## measure, beside peers (ARGS="--help")
	$(BIN)/python -m benchmarks.run $(ARGS)

# Docker Compose reads it beside compose.yaml. What is there stays: volumes know these passwords.
.env:
	@umask 077 && for name in PEER_SECRET S3_ACCESS_KEY S3_SECRET_KEY GRAFANA_PASSWORD; do \
	  echo "$$name=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(20))')"; done > $@

clean: ## remove everything that make has built; ./data stays
	rm -rf .venv .cache .types .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist \
	  *.egg-info tests/acceptance/js/node_modules

help:
	@sed -n 's/^\([a-z]*\):.* ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10
