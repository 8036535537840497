"""Several threads that do something at the same moment, each with a connection of its own."""

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection

PATIENCE_S = 90


def all_at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs in threads of their own from one moment on; return their answers, the first to end first.

    What a job raises is raised here. For tests whose database is not one transaction.
    """
    start, answers, errors = threading.Barrier(len(jobs)), [], []

    def work(job: Callable[[], Any]) -> None:
        try:
            # Or the first would be done before the last has a connection.
            connection.ensure_connection()
            start.wait(PATIENCE_S)
            answers.append(job())
        except BaseException as error:  # the test's own thread must see it
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    if errors:
        raise errors[0]
    assert len(answers) == len(jobs), "not all of them have ended"
    return answers
