# syntax=docker/dockerfile:1
# Losscast in a container. The GPU image is the default; the CPU one is built by
#   docker build --build-arg RUNTIME=cpu -t losscast:cpu .
#
# Both share one slim base. onnxruntime-gpu[cuda,cudnn] brings CUDA 13 and cuDNN 9 as wheels of its own, so a CUDA base
# image would only hold them twice: the host gives the driver, through the NVIDIA Container Toolkit (`--gpus all`).
# torch is in neither image: serving does not need it.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG RUNTIME=gpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# What the service depends on, before its code: a change of code leaves this layer, gigabytes with CUDA, as it is.
# constraints.txt holds the versions that the tests ran with; what only the GPU build brings is not among them.
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/venv \
    && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['${RUNTIME}'], *extras['otel'], sep='\n')" > /tmp/requirements.txt \
    && /opt/venv/bin/pip install --constraint constraints.txt --requirement /tmp/requirements.txt
COPY README.md LICENSE losscast.py ./
COPY models/ models/
COPY service/ service/
RUN pip wheel --no-deps --wheel-dir /dist .

FROM ${PYTHON_IMAGE} AS final
ARG RUNTIME=gpu
LABEL org.opencontainers.image.title="losscast" \
      org.opencontainers.image.description="Serves an image-regression model and forecasts the loss of every prediction" \
      org.opencontainers.image.licenses="Apache-2.0"
# The uid is fixed, so that a volume keeps its owner from one image to the next.
RUN groupadd --gid 10001 losscast \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/losscast --shell /usr/sbin/nologin losscast \
    && install --directory --owner=losscast --group=losscast --mode=0750 /var/lib/losscast
COPY --from=build /opt/venv /opt/venv
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    /opt/venv/bin/pip install --no-cache-dir --no-index --no-deps /dist/*.whl
COPY bundles/ /opt/losscast/bundles/
# PYTHONSAFEPATH: nothing is imported from the folder the service happens to be started in.
# LOSSCAST_HOST: beyond loopback the service starts only with LOSSCAST_API_KEYS; there is no default for those.
# ORT_DISABLE_TELEMETRY: ONNX Runtime's wheels report to their maker by default. Nothing leaves this container unasked.
# NVIDIA_DRIVER_CAPABILITIES: the parts of the driver that ONNX Runtime calls; it has no effect without a GPU.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    LOSSCAST_HOST=0.0.0.0 \
    LOSSCAST_PORT=8000 \
    LOSSCAST_BUNDLES=/opt/losscast/bundles \
    LOSSCAST_STATE=/var/lib/losscast \
    LOSSCAST_PROVIDER=${RUNTIME} \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /opt/losscast
USER 10001:10001
VOLUME /var/lib/losscast
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['LOSSCAST_PORT'] + '/v2/health/ready', timeout=4)"]
CMD ["losscast", "serve"]
