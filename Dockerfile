# Coldframe in a container: a simulated laboratory to try, or the service beside instruments on the
# network. It runs as user 10001: a mounted folder must let that user write. Serial ports need
# --device, and frames are to travel through shared memory, so give it some:
#
#   docker build -t coldframe .
#   mkdir -m 777 out
#   docker run --rm --shm-size=1g -v "$PWD/out:/out" coldframe demo --out /out
#   docker run -d --shm-size=1g --network host -v /etc/coldframe:/etc/coldframe:ro \
#          -v coldframe-state:/var/lib/coldframe coldframe serve /etc/coldframe/lab.toml
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY coldframe/*.py coldframe/py.typed coldframe/
COPY config config
COPY daemon daemon
COPY drivers drivers
COPY protocols protocols
COPY simulators simulators
RUN python -m venv /opt/coldframe \
    && /opt/coldframe/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.12-slim-bookworm
COPY --from=build /opt/coldframe /opt/coldframe
ENV PATH=/opt/coldframe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/coldframe \
    RUNTIME_DIRECTORY=/run/coldframe \
    STATE_DIRECTORY=/var/lib/coldframe
RUN mkdir -p /run/coldframe /var/lib/coldframe \
    && chown 10001:10001 /run/coldframe /var/lib/coldframe
USER 10001:10001
VOLUME /var/lib/coldframe
EXPOSE 5750 5751 5752
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["coldframe", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["coldframe"]
CMD ["serve", "/etc/coldframe/lab.toml"]
