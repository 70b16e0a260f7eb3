# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target api    -t offshelf-api .
#   docker build --target worker -t offshelf-worker .                       (CPU)
#   docker build --target worker -t offshelf-worker \
#       --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .    (CUDA)

ARG PYTHON_VERSION=3.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/venv/bin:$PATH \
    OFFSHELF_DATA_DIR=/data \
    OFFSHELF_HOST=0.0.0.0
# The folders exist with their owner, because a new named volume takes both from the image.
RUN useradd --create-home --uid 10001 offshelf \
    && mkdir -p /data /weights /home/offshelf/.cache \
    && chown 10001:10001 /data /weights /home/offshelf/.cache

FROM base AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY clients clients

FROM source AS build-api
# What is installed is this source, with what pyproject.toml allows; there is nothing to pin.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv \
    && pip install '.[arrow,onnx]'

FROM source AS build-worker
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch first and from its own index, so that the second line finds it satisfied. The newest
# build that pyproject.toml allows is wanted, hence no pin.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv \
    && pip install --index-url "${TORCH_INDEX}" "torch>=2.11" "torchvision>=0.26" \
    && pip install '.[worker,onnx]'

FROM base AS api
COPY --from=build-api /opt/venv /opt/venv
USER 10001
WORKDIR /home/offshelf
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["offshelf", "health", "--live"]
CMD ["offshelf", "api"]

FROM base AS worker
COPY --from=build-worker /opt/venv /opt/venv
USER 10001
WORKDIR /home/offshelf
ENV OFFSHELF_WEIGHTS_DIR=/weights
# The worker drains for up to OFFSHELF_DRAIN_S seconds on this signal.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["offshelf", "health", "--worker"]
CMD ["offshelf", "worker"]
