FROM python:3.13-slim AS build
WORKDIR /build
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels streamtable \
 && useradd --system --create-home streamtable \
 && install --directory --owner streamtable /data
USER streamtable
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/', timeout=2)"]
ENTRYPOINT ["streamtable"]
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
