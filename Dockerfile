# Both services and the `ordertape` command, for compose.yaml.
FROM python:3.11-slim
WORKDIR /ordertape
COPY pyproject.toml README.md LICENSE ./
COPY services services
COPY generated generated
COPY clients/python/src clients/python/src
COPY schema schema
RUN pip install --no-cache-dir . && useradd --create-home ordertape && install -d -o ordertape /data
USER ordertape
VOLUME /data
ENTRYPOINT []
CMD ["ordertape", "--help"]
