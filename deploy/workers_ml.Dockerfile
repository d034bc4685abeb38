# The ML worker. From the repository's root:
#   docker build -f deploy/workers_ml.Dockerfile -t api-workers-ml .

FROM python:3.11-slim-bookworm AS base
# tini: a worker that refuses to start ends its main process, which must not have the id 1 for that.
# Its version is not pinned: a Debian release keeps one, and replaces it when it was fixed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /app --no-create-home worker \
    && install -d -o worker -g worker /storage
WORKDIR /app
COPY deploy/worker_health.py ./
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LOG_FORMAT=json \
    STORAGE_URL=file:/storage
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["python", "/app/worker_health.py"]
ENTRYPOINT ["tini", "--"]
CMD ["taskiq", "worker", "workers_ml.main:broker", "--workers", "1"]

FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy
WORKDIR /build
# What is locked first: this layer stays until the lock file changes, whatever the code does.
COPY pyproject.toml uv.lock ./
COPY api_shared/pyproject.toml api_shared/
COPY workers_ml/pyproject.toml workers_ml/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-install-workspace \
    --package workers-ml --package api-shared --extra cli --extra objects
COPY api_shared api_shared
COPY workers_ml workers_ml
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable \
    --package workers-ml --package api-shared --extra cli --extra objects

FROM build AS build-development
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --inexact --only-group reload

# For compose.dev.yaml, which mounts the source: `taskiq worker --reload` works in it.
FROM base AS development
COPY --from=build-development /opt/venv /opt/venv

FROM base AS worker
COPY --from=build /opt/venv /opt/venv
