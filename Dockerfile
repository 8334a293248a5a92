# The HTTP service. By tag and not by digest: nobody keeps a digest written here up to date with the fixes of the base,
# and none could be looked up when this was written. To pin it: --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements-build.lock requirements-controller.lock ./
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes --only-binary :all: -r requirements-build.lock \
    && python -m venv --without-pip /opt/runner-provisioner \
    && /build/bin/pip --python /opt/runner-provisioner/bin/python install \
        --require-hashes --only-binary :all: -r requirements-controller.lock
COPY pyproject.toml README.md LICENSE ./
COPY LICENSES LICENSES
COPY examples/gpu-job.yml examples/gpu-job.yml
COPY runner_provisioner runner_provisioner
RUN /build/bin/python -m hatchling build -t wheel -d /dist \
    && /build/bin/pip --python /opt/runner-provisioner/bin/python install --no-index --no-deps /dist/*.whl

FROM ${PYTHON}
# A number that stays: secrets on the host are given to it.
RUN groupadd --gid 10001 provisioner \
    && useradd --uid 10001 --gid 10001 --home-dir /state --no-create-home --shell /usr/sbin/nologin provisioner \
    && install -d -m 0700 -o 10001 -g 10001 /state
COPY --from=build /opt/runner-provisioner /opt/runner-provisioner
ENV PATH=/opt/runner-provisioner/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/state \
    XDG_STATE_HOME=/state \
    XDG_CACHE_HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME ["/state"]
EXPOSE 8000
# http.client, because it heeds no proxy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["runner-provisioner"]
# Refuses to start until there is a key; compose.yaml publishes on loopback alone and lets it start.
CMD ["serve", "--host", "0.0.0.0"]
