# gaussad on a production machine: predict, serve, watch, update, explain, export and info, without torch.
#   docker build --tag gaussad .
#   docker run --rm --volume "$PWD:/work" gaussad predict screw.gaussad new
FROM python:3.12-slim AS wheel
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
COPY requirements-predict.txt /
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --requirement /requirements-predict.txt \
    && pip install --no-cache-dir --no-deps /wheels/*.whl
USER 1000
WORKDIR /work
ENTRYPOINT ["gaussad"]
