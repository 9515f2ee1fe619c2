# The `raftkv` command, and so a node. docker-compose.yml says how nodes become a cluster.
# Where no image registry is reachable: scripts/docker-base, then --build-arg BASE_IMAGE=raftkv-base.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# A package index other than pip's default; docker-compose hands on the caller's.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# pip stays here: what runs later needs none.
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/raftkv
# Dependencies have a layer of their own, so that a change of our code doesn't fetch them again.
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; \
project = tomllib.load(open("pyproject.toml", "rb")); \
open("tools.txt", "w").write("\n".join(project["build-system"]["requires"])); \
open("needs.txt", "w").write("\n".join(project["project"]["dependencies"]))' \
 && tools/bin/pip install --requirement tools.txt \
 && tools/bin/pip --python /opt/raftkv/bin/python install --requirement needs.txt
COPY README.md LICENSE ./
COPY raftkv raftkv
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && tools/bin/pip --python /opt/raftkv/bin/python install --no-deps wheels/*.whl

FROM ${BASE_IMAGE}
# The group root may write there too: a container with any other uid has that group.
RUN useradd --no-log-init --uid 7411 --no-create-home --home-dir /var/lib/raftkv raftkv \
 && install --directory --owner raftkv --group root --mode 0770 /var/lib/raftkv /etc/raftkv
ENV PATH=/opt/raftkv/bin:$PATH HOME=/var/lib/raftkv RAFTKV_DATA_DIR=/var/lib/raftkv/data
# Where the node listens for clients, for the health check; over TLS raftkvs://127.0.0.1:7411.
ENV HEALTHCHECK_ADDRESS=127.0.0.1:7411
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=30s \
  CMD raftkv health "$HEALTHCHECK_ADDRESS" --timeout 3
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="raftkv" \
  org.opencontainers.image.description="Raft-replicated key-value store, locks and elections" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="$VERSION" \
  org.opencontainers.image.revision="$REVISION"
USER raftkv
WORKDIR /var/lib/raftkv
EXPOSE 7411 7511
ENTRYPOINT ["raftkv"]
CMD ["serve"]
# Last, so that a change of our code makes one layer.
COPY --from=build /opt/raftkv /opt/raftkv
