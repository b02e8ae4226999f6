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
EXPOSE 50051
# grpc.health.v1, by the client that the server brings. DRAGOMAN_GRPC_PORT moves the port here as it does for the server.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-c", "\
import os, sys, grpc\n\
from grpc_health.v1 import health_pb2, health_pb2_grpc\n\
address = '127.0.0.1:' + os.environ.get('DRAGOMAN_GRPC_PORT', '50051')\n\
answer = health_pb2_grpc.HealthStub(grpc.insecure_channel(address)).Check(health_pb2.HealthCheckRequest(), timeout=4)\n\
sys.exit(answer.status != health_pb2.HealthCheckResponse.SERVING)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dragoman"]
CMD ["serve"]
