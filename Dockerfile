# Two stages: one with what builds, one with what runs. Every package is pinned by its hash.

FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# pip stays outside of the environment that is shipped: nothing there needs it.
RUN python -m venv --without-pip /opt/nofx-grpc
COPY requirements.lock requirements-build.lock ./
RUN pip --python /opt/nofx-grpc/bin/python install --require-hashes -r requirements.lock \
    && pip install --require-hashes -r requirements-build.lock

COPY . .
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/nofx-grpc/bin/python install --no-index --no-deps /wheels/*.whl


FROM python:3.11-slim-bookworm
COPY --from=builder /opt/nofx-grpc /opt/nofx-grpc

# The only directory that is written to, so the root file system may be read-only (--read-only).
# The id is fixed so that the owner of a mounted directory can be set beforehand.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin nofx \
    && install --directory --owner=nofx --group=nofx --mode=0700 /data
USER 10001:10001
WORKDIR /data
VOLUME /data

# NOFX_GRPC_LISTEN stays on loopback: plaintext is never served beyond it, in a container neither. That is enough for
# clients that share the network namespace (the same pod, --network=container:..., --network=host). To serve others, set
# NOFX_GRPC_LISTEN=0.0.0.0:50051 together with NOFX_GRPC_TLS_CERT and NOFX_GRPC_TLS_KEY.
ENV PATH=/opt/nofx-grpc/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NOFX_GRPC_DATA_DIR=/data \
    NOFX_GRPC_LISTEN=127.0.0.1:50051

EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["nofx-grpc", "health"]
ENTRYPOINT ["nofx-grpc"]
CMD ["serve"]
