# The gateway's image, for docker, podman and buildah. It runs as user 10001; its root file system may be read-only, since
# all that it writes is in /var/lib/noah, or where the configuration says.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY noah /src/noah
# pip compiles what it installs: a gateway that may not write could not keep that. It is not needed any more then.
RUN python3 -m venv /opt/noah && /opt/noah/bin/pip install --no-cache-dir '/src[fast,server]' \
 && /opt/noah/bin/pip uninstall -qy pip
# What the image's gateway is made of, as CycloneDX: `docker run --entrypoint cat IMAGE /opt/noah/sbom.cdx.json`.
RUN python3 -m venv /sbom && /sbom/bin/pip install --no-cache-dir cyclonedx-bom \
 && /sbom/bin/cyclonedx-py environment /opt/noah/bin/python --output-reproducible -o /opt/noah/sbom.cdx.json

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Noah debug gateway" \
      org.opencontainers.image.description="Remote Java debugging for test environments" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      debug.noah/sbom="/opt/noah/sbom.cdx.json"
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/noah noah && install -d -o noah -m 700 /var/lib/noah
COPY --from=build /opt/noah /opt/noah
ENV PATH=/opt/noah/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /var/lib/noah
USER 10001
ENTRYPOINT ["noah"]
CMD ["serve"]
