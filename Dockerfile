# syntax=docker/dockerfile:1
# gpux serve: models are in the volume /data, with the Hub's cache, the conversations and the keys of the server.
# Extras besides these: --build-arg EXTRAS=server,chat,postgres,vision,audio

FROM python:3.12-slim AS build
ARG EXTRAS=server,chat
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/gpux && /opt/gpux/bin/pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:3.12-slim
RUN groupadd --gid 10001 gpux \
    && useradd --uid 10001 --gid gpux --no-create-home --home-dir /data --shell /usr/sbin/nologin gpux \
    && install --directory --owner=gpux --group=gpux --mode=0700 /data
COPY --from=build /opt/gpux /opt/gpux
ENV PATH=/opt/gpux/bin:$PATH \
    GPUX_HOME=/data \
    HF_HOME=/data/hf \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER gpux
VOLUME /data
EXPOSE 5000
# The drain of `gpux serve` takes 30 s at most: run the container with --stop-timeout 60.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/livez', timeout=4)"]
ENTRYPOINT ["gpux"]
CMD ["serve", "--host", "0.0.0.0", "--port", "5000", "--api-key-file", "/data/server-keys.json", "--log-format", "json"]
