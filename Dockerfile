# syntax=docker/dockerfile:1
# evovlm in a container: starts the app by default; arguments run any other command.
#
#   docker build -t evovlm .                                    CPU
#   docker build -t evovlm:cuda --build-arg TORCH=cuda .        an NVIDIA GPU
#   docker run --rm -p 7860:7860 -v evovlm-data:/data evovlm
#   docker run --rm -v evovlm-data:/data evovlm evolve zoo-vlm --out /data/runs/vlm

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# fugashi and neologdn are compiled if there is no wheel for the machine. The compiler stays in this stage, so its
# version need not be pinned and may follow Debian's security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/evovlm
ENV PATH=/opt/evovlm/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
# torch first and separately: it is the largest layer, and the only one that differs between CPU and CUDA. Its version
# is pinned: "$torch" is a line of constraints.txt.
# hadolint ignore=DL3013
RUN torch="$(grep '^torch==' constraints.txt)" \
    && if [ "$TORCH" = cpu ]; then \
         pip install --index-url https://download.pytorch.org/whl/cpu "$torch"; \
       else pip install "$torch"; fi
COPY pyproject.toml README.md LICENSE ./
COPY evovlm evovlm
COPY app app
COPY benchmarks benchmarks
COPY recipes recipes
RUN pip install --constraint constraints.txt '.[app]'

FROM python:${PYTHON}-slim-bookworm
RUN useradd --create-home --uid 1000 evovlm \
    && mkdir -p /data/runs /data/models \
    && chown -R evovlm:evovlm /data
COPY --from=build /opt/evovlm /opt/evovlm
COPY --chown=evovlm:evovlm recipes /home/evovlm/recipes
ENV PATH=/opt/evovlm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    HF_HOME=/data/models \
    HF_HUB_DISABLE_TELEMETRY=1 \
    GRADIO_ANALYTICS_ENABLED=False
USER 1000
WORKDIR /home/evovlm
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["evovlm"]
CMD ["app", "--host", "0.0.0.0", "--port", "7860", "--studies", "/data/runs"]
