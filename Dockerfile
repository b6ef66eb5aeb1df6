FROM python:3.13-slim AS build
WORKDIR /build
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels ".[search,tracing]"

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels "streamtable[search,tracing]" \
 && useradd --system --uid 10001 --user-group --create-home streamtable \
 && install --directory --owner streamtable --group streamtable /data
# By number: Kubernetes can't tell that a name is not root's.
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=10m --start-interval=1s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["streamtable"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
