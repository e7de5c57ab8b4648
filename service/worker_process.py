"""A Celery worker with beat as a child process that is started again when it dies."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from learner.celery_app import worker_command

logger = logging.getLogger(__name__)

_STOP_SECONDS = 15
_LOOK_EVERY_SECONDS = 2.0


@contextlib.contextmanager
def worker_process(log_file: Path) -> Iterator[None]:
    """Keep a worker running for as long as the context lasts; it inherits this process's environment."""
    stopping = threading.Event()
    with log_file.open("ab") as log:
        workers = [_start(log)]

        def watch() -> None:
            while not stopping.wait(_LOOK_EVERY_SECONDS):
                if workers[-1].poll() is not None:
                    logger.warning("the worker ended with status %s; starting another", workers[-1].returncode)
                    workers.append(_start(log))

        watcher = threading.Thread(target=watch, name="worker-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopping.set()
            watcher.join()
            _stop(workers[-1])


def _start(log: IO[bytes]) -> subprocess.Popen[bytes]:
    command = [*worker_command(1, with_sweep=True), "--loglevel", "INFO"]
    # A session of its own, so that Ctrl-C reaches the worker only after the API has stopped.
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
