"""A Celery worker with beat as a child process that is started again when it dies."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

from learner.celery_app import worker_command

logger = logging.getLogger(__name__)

_STOP_SECONDS = 15
_LOOK_EVERY_SECONDS = 2.0


@contextlib.contextmanager
def worker_process(data_dir: Path) -> Iterator[None]:
    """Keep a worker running for as long as the context lasts; it inherits this process's environment."""
    stopping = threading.Event()
    pid_file = data_dir / "worker.pid"
    _end_leftover(pid_file)
    with (data_dir / "worker.log").open("ab") as log:
        workers = [_start(log, pid_file)]

        def watch() -> None:
            while not stopping.wait(_LOOK_EVERY_SECONDS):
                if workers[-1].poll() is not None:
                    logger.warning("the worker ended with status %s; starting another", workers[-1].returncode)
                    workers.append(_start(log, pid_file))

        watcher = threading.Thread(target=watch, name="worker-watch", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopping.set()
            watcher.join()
            _stop(workers[-1])
            pid_file.unlink(missing_ok=True)


def _end_leftover(pid_file: Path) -> None:
    """End the worker of a `cage up` that was killed: two would sweep side by side."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        leftover = psutil.Process(int(pid_file.read_text()))
        if "learner.celery_app" in leftover.cmdline():
            logger.warning("ending the worker that an earlier start left behind")
            leftover.terminate()
            leftover.wait(_STOP_SECONDS)


def _start(log: IO[bytes], pid_file: Path) -> subprocess.Popen[bytes]:
    command = worker_command(1, with_sweep=True)
    # A session of its own, so that Ctrl-C reaches the worker only after the API has stopped.
    worker = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    pid_file.write_text(str(worker.pid))
    return worker


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
