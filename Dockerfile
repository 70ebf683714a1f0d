# The daemon as a non-root process with one volume. User code comes in at /app: a mount, or an image on top of this one.
#   docker build -t runtimed .
#   docker run --read-only --tmpfs /tmp -v data:/var/lib/runtimed -v "$PWD:/app:ro" runtimed serve --app flows:app

FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/*.txt requirements/
# Two environments: one that builds the wheel (pinned and hashed too), one that goes into the image.
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/dev.txt \
 && python -m venv /opt/runtimed \
 && /opt/runtimed/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY wal wal
COPY actors actors
COPY runtimed runtimed
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/runtimed/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM python:3.13-slim
COPY --from=build /opt/runtimed /opt/runtimed
ENV PATH=/opt/runtimed/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/runtimed
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/runtimed
USER 65532:65532
VOLUME /var/lib/runtimed
WORKDIR /app
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["runtimed", "status", "-q"]
ENTRYPOINT ["runtimed"]
CMD ["serve"]
