# The daemon as a non-root process with a read-only root and one volume. User code comes in at /app: a mount, or an image on
# top of this one. compose.yaml runs it behind Traefik; docs/operating.md says what was tried of this, and what was not.
#   docker build -t runtimed .
#   docker run --read-only --tmpfs /tmp -v data:/var/lib/runtimed -v "$PWD:/app:ro" runtimed serve --app flows:app

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/dev.txt requirements/
# Two environments: one that builds the wheel (pinned and hashed too), one that goes into the image.
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt \
 && python -m venv /opt/runtimed \
 && /opt/runtimed/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY wal wal
COPY actors actors
COPY runtimed runtimed
COPY tui tui
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/runtimed/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="runtimed" \
      org.opencontainers.image.description="Durable execution for one host: one service, one SQLite file, one terminal." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
COPY --from=build /opt/runtimed /opt/runtimed
# What `runtimed` finds by itself, `serve` and `status` alike: the volume, and a master key where secrets are mounted.
ENV PATH=/opt/runtimed/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIRECTORY=/var/lib/runtimed
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/runtimed
USER 65532:65532
VOLUME /var/lib/runtimed
WORKDIR /app
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["runtimed", "status", "-q"]
ENTRYPOINT ["runtimed"]
CMD ["serve"]
