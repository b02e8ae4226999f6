# The server alone; Envoy runs beside it from its own image, with envoy.yaml, edge/ and gen/ mounted (docs/envoy.md).
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/build.lock requirements/server.lock requirements/
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && python -m venv /opt/dragoman && /opt/dragoman/bin/pip install --no-cache-dir --require-hashes -r requirements/server.lock
COPY pyproject.toml ./
COPY server server
COPY gen/python gen/python
# The same command as `make wheel`.
RUN /build/bin/python -m hatchling build -t wheel -d dist \
 && /opt/dragoman/bin/pip install --no-cache-dir --no-deps --no-index dist/*.whl \
 && /opt/dragoman/bin/pip check

FROM python:3.13-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/dragoman --shell /usr/sbin/nologin dragoman \
 && install -d -o dragoman -g dragoman -m 0700 /var/lib/dragoman
COPY --from=build /opt/dragoman /opt/dragoman
# Inside a container, the loopback is nobody's neighbour: name Envoy's network in DRAGOMAN_TRUSTED_PROXIES (docs/limits.md).
ENV PATH=/opt/dragoman/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DRAGOMAN_GRPC_HOST=0.0.0.0 DRAGOMAN_HOME=/var/lib/dragoman
USER 10001:10001
WORKDIR /var/lib/dragoman
VOLUME /var/lib/dragoman
# gRPC, and calls from Envoy.
EXPOSE 50051 50052
# By the server's own settings: its port, and TLS where it speaks TLS.
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 CMD ["dragoman", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dragoman"]
CMD ["serve"]
