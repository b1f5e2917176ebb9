# syntax=docker/dockerfile:1
# The tag moves; a release passes the digest as well: --build-arg BASE=python:3.13-slim@sha256:...
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# Both environments come from locks whose every file carries a hash: what was reviewed is what runs.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt \
    && python -m venv --without-pip /opt/spillway \
    && pip --python /opt/spillway/bin/python install --no-compile \
        --require-hashes --only-binary :all: -r requirements/runtime.txt

# Last, so that a change of the code does not install the dependencies again.
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/build/bin/hatchling build -t wheel -d /tmp/dist \
    && pip --python /opt/spillway/bin/python install --no-compile --no-deps --no-index /tmp/dist/*.whl \
    # Compiled by content, not by time: the same bytes at every build, and a read-only root can't.
    && /opt/spillway/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/spillway/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="spillway" \
      org.opencontainers.image.description="Kubernetes operator for cost-aware LLM autoscaling" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/spillway /opt/spillway
# USER also as a variable: Kopf asks for the user's name, and a numeric user (65532 here, a random
# one on OpenShift) has no entry in /etc/passwd.
ENV PATH=/opt/spillway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    USER=spillway
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
# For plain container runtimes; Kubernetes uses the probes of the Deployment.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('SPILLWAY_HTTP_PORT', '8080') + '/healthz', timeout=2)"]
ENTRYPOINT ["spillway"]
CMD ["run"]
