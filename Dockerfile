FROM python:3.12-slim
RUN useradd --create-home cage && mkdir -p /app/.cage/principals && chown -R cage /app
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY cage_core cage_core
COPY learner learner
COPY service service
COPY migrations migrations
# The CPU build of torch; a GPU image installs its own torch first.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt -e .
USER cage
# Compiled once here instead of at every start.
RUN python -c 'from cage_core.engine.games import compile_solver; compile_solver()'
