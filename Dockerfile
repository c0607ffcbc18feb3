# The gateway's image, for docker, podman and buildah, for amd64 and arm64: nothing of the image's architecture is run to
# build it, so no emulation is needed. It holds Python and the gateway, without a shell. It runs as user 10001; its root
# file system may be read-only, since all that it writes is in /var/lib/noah, or where the configuration says.
ARG BASE=python:3.13-slim
ARG BUILD_BASE=${BASE}

FROM ${BASE} AS base
# Some instruction: buildah 1.28 keeps the container of a stage without any.
WORKDIR /

FROM --platform=${BUILDPLATFORM} ${BUILD_BASE} AS build
ARG TARGETARCH
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends binutils-multiarch > /dev/null
RUN python3 -m venv /tools && /tools/bin/pip install -q --no-cache-dir cyclonedx-bom
COPY pyproject.toml README.md LICENSE /src/
COPY noah /src/noah
# The wheels of the other machine, which say the C library that they need: Debian 12 has 2.36. Debug symbols are half of
# what is compiled; those that auditwheel changed (*.libs) do not survive strip.
RUN case "${TARGETARCH}" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; *) exit 1 ;; esac \
 && platforms="$(seq -f "--platform=manylinux_2_%g_$machine" 36 -1 17) --platform=manylinux2014_$machine" \
 && python3 -m venv --without-pip /opt/noah && packages=$(echo /opt/noah/lib/python3*/site-packages) \
 && /tools/bin/pip wheel -q --no-deps --wheel-dir /wheels /src \
 && /tools/bin/pip --python /opt/noah/bin/python3 install -q --no-cache-dir --no-compile --only-binary=:all: $platforms \
      --target "$packages" "$(echo /wheels/*.whl)[fast,server]" \
 && mv "$packages/bin/noah" /opt/noah/bin/ && rm -r "$packages/bin" \
 && find "$packages" -name '*.so' -exec strip --strip-unneeded {} +
# What the gateway is made of, as CycloneDX.
RUN /tools/bin/cyclonedx-py environment /opt/noah/bin/python3 --output-reproducible -o /opt/noah/sbom.cdx.json
COPY scripts/image_root.py /src/
COPY --from=base / /base
# A gateway that may not write could not keep what Python compiles. Nobody changes the sources, so they are not looked at.
RUN mkdir /image && python3 /src/image_root.py /base "$(echo /opt/noah/lib/python3*/site-packages)" /image \
 && install -d -o 10001 -g 10001 -m 700 /image/var/lib/noah && mkdir /image/opt && cp -a /opt/noah /image/opt/ \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /image /image/opt

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Noah debug gateway" \
      org.opencontainers.image.description="Remote Java debugging for test environments" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      debug.noah/sbom="/opt/noah/sbom.cdx.json"
COPY --from=build /image /
ENV PATH=/opt/noah/bin:/usr/local/bin:/usr/bin:/bin
WORKDIR /var/lib/noah
USER 10001
ENTRYPOINT ["noah"]
CMD ["serve"]
