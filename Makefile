# make demo    the point of it all, in half a minute, with nothing but a JDK; goes on serving until Ctrl-C
# make test    everything that can be tested here, four files at a time, since most tests wait; says at its end what it
#              skipped and why; if a few fail, they run once more, alone, and it says so
# make soak    the long tests
# make bench   the figures of README.md
# make docs    the site of docs/, into build/site; no link may lead nowhere
# make manifests  what is made of the Helm chart
# make release what a release publishes, into dist/: packages, the chart, images; built twice, and the same both times
# make pictures ARGS=KUBECONFIG   the pictures of README and docs, of the product as it runs in that cluster
# make tools-image   build/noah-tools.tar, the image for containers beside a JVM whose own image has no shell

PY := .venv/bin/python
JDK := java:openjdk-17-jdk-headless javac:openjdk-17-jdk-headless jdb:openjdk-17-jdk-headless curl:curl

.PHONY: demo test check ruff mypy lint-imports vulture compiled-tests soak bench docs manifests release pictures tools-image clean

demo: .venv/installed
	@scripts/need $(JDK)
	@.venv/bin/noah demo $(ARGS)

test: .venv/installed-dev
	@$(MAKE) --no-print-directory -j 2 --output-sync check compiled-tests
	@scripts/need $(JDK) wget:wget busybox:busybox-static socat:socat ip:iproute2 nft:nftables sudo:sudo \
		sshd:openssh-server chromium:chromium /usr/lib/postgresql:postgresql pgbouncer:pgbouncer haproxy:haproxy nginx:nginx-light npm:npm promtool:prometheus faketime:faketime git:git
	@scripts/helm > /dev/null
	$(PY) -m pytest -m "not soak" --cache-clear --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 30 $(ARGS) \
		|| scripts/failed-again $$?

check: mypy ruff lint-imports vulture

mypy lint-imports vulture: .venv/installed-dev
	.venv/bin/$@

ruff: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# Before four processes would compile the same at once, 13 s of CPU each, and beside mypy, which uses one processor.
# What cannot be collected is reported by the run itself.
compiled-tests: .venv/installed-dev
	-@$(PY) -m pytest --collect-only -qq -p no:cacheprovider > /dev/null

soak: .venv/installed-dev
	$(PY) -m pytest -m soak $(ARGS)

bench: .venv/installed-dev
	@scripts/need $(JDK) cc:gcc socat:socat nginx:nginx-light haproxy:haproxy /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
	$(PY) -m benchmarks.relay $(ARGS)
	$(PY) -m benchmarks.command_line

docs: .venv/installed-dev
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build -q

manifests: .venv/installed-dev
	$(PY) scripts/manifests.py "$$(scripts/helm)"

release: .venv/installed-dev
	@scripts/need dpkg-deb:dpkg git:git
	$(PY) scripts/release.py

pictures: .venv/installed-dev
	@scripts/need $(JDK) chromium:chromium
	PYTHONPATH=. $(PY) scripts/pictures.py $(ARGS)

tools-image:
	@scripts/need python3:python3 busybox:busybox-static socat:socat curl:curl
	python3 scripts/tools_image.py build/noah-tools.tar $(NAME)

.venv/python:
	@scripts/need python3:python3
	@python3 -c 'import ensurepip' 2> /dev/null || scripts/need /usr/share/doc/python3-venv:python3-venv
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed."; exit 1; }
	python3 -m venv .venv
	@touch $@

.venv/installed: .venv/python pyproject.toml
	$(PY) -m pip install -q --disable-pip-version-check -e '.[fast,server]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(PY) -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist
