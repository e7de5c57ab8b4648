# One image for the API, the worker and the migrations: docker-compose.yml says which runs what.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# CPU build of torch. For CUDA: --build-arg TORCH_INDEX=https://pypi.org/simple --build-arg EXTRAS=telemetry,gpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=telemetry
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY cage_core cage_core
COPY learner learner
COPY service service
COPY migrations migrations
# Each build of torch brings the Triton that it was made for.
RUN grep -v '^triton==' constraints.txt > /tmp/constraints.txt \
    && pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -c /tmp/constraints.txt -e ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 cage \
    && useradd --uid 10001 --gid cage --no-create-home --home-dir /app cage \
    && mkdir -p /app/.cage/principals /var/cache/cage \
    && chown -R cage:cage /app/.cage /var/cache/cage
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/cache \
    CAGE_HOST=0.0.0.0
WORKDIR /app
USER 10001:10001
# Compiled once here instead of at every start; another kind of processor compiles again, into the same place.
RUN python -c 'from cage_core.engine.games import compile_solver; compile_solver()'
EXPOSE 8080
CMD ["cage", "serve"]
