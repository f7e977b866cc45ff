# syntax=docker/dockerfile:1
# Losscast in a container. The GPU image is the default. To build the CPU image:
#   docker build --build-arg RUNTIME=cpu -t losscast:cpu .
# EXTRAS=otel,train adds what `losscast refine` needs, torch among it: some gigabytes.
#
# Both have the same slim base. onnxruntime-gpu[cuda,cudnn] installs CUDA 13 and cuDNN 9 as wheels, so a CUDA base image
# would hold them twice. The host provides the driver, through the NVIDIA Container Toolkit (`--gpus all`).
# Without EXTRAS neither image has torch: serving does not need it.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG RUNTIME=gpu
ARG EXTRAS=otel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Dependencies come before the code, so that a change of code keeps this layer, which is gigabytes with CUDA.
# constraints.txt has the versions that the tests ran with, without packages that only the GPU build needs.
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/venv \
    && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
chosen = ['${RUNTIME}', *'${EXTRAS}'.split(',')]; \
print(*project['dependencies'], *(line for name in chosen for line in extras[name]), sep='\n')" > /tmp/requirements.txt \
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
# The uid is fixed, so that the files of a volume keep their owner when the image changes.
RUN groupadd --gid 10001 losscast \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/losscast --shell /usr/sbin/nologin losscast \
    && install --directory --owner=losscast --group=losscast --mode=0750 /var/lib/losscast
COPY --from=build /opt/venv /opt/venv
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    /opt/venv/bin/pip install --no-cache-dir --no-index --no-deps /dist/*.whl
# They belong to the user, so that a volume in this place, which starts with these files, can be written by the service.
COPY --chown=10001:10001 bundles/ /opt/losscast/bundles/
# PYTHONSAFEPATH: Python imports nothing from the folder in which the service is started.
# LOSSCAST_HOST: with an address other than loopback the service needs LOSSCAST_API_KEYS, which have no default.
# ORT_DISABLE_TELEMETRY: by default ONNX Runtime's wheels send telemetry to their maker. This container sends nothing.
# NVIDIA_DRIVER_CAPABILITIES: the parts of the driver that ONNX Runtime uses. It has no effect without a GPU.
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
