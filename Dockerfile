# Two images from one recipe, both for a non-root user and a read-only root file system:
#
#   docker build --target cpu --tag kprune-export:cpu .
#   docker build --target gpu --tag kprune-export:gpu .
#   docker run --rm --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" --volume "$PWD:/work" kprune-export:cpu \
#       prune-and-build ./my-classifier --output bundle --calibration texts.csv --flops-reduction 0.5
#
# With --gpus all the second one uses the host's GPU and driver. PIP_EXTRA_INDEX_URL is a build argument, for an index
# that has CPU builds of torch: the image for the CPU is several GB smaller with them.
ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_CONSTRAINT=/source/constraints.txt
WORKDIR /source
RUN python -m venv /opt/kprune
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY kprune_export kprune_export
COPY pruning pruning
COPY exporters exporters
RUN /opt/kprune/bin/pip install '.[sign,triton]'

FROM build AS build-gpu
RUN /opt/kprune/bin/pip install '.[sign,triton,tensorrt]'

# Everything that is written goes to /work, the mounted folder, or to /tmp, which may be a tmpfs.
FROM python:${PYTHON} AS runtime
ENV PATH=/opt/kprune/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_STATE_HOME=/tmp/state
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin kprune
WORKDIR /work
ENTRYPOINT ["kprune-export"]
CMD ["--help"]

FROM runtime AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-gpu /opt/kprune /opt/kprune
USER 10001

FROM runtime AS cpu
COPY --from=build /opt/kprune /opt/kprune
USER 10001
