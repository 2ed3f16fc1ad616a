"""A polite end: SIGTERM, which clusters send before they take a machine away, lets the step finish and be saved."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

PAUSED = 75  # exit status of a run that was stopped and saved its state; the same command goes on with it
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SIGUSR1: SLURM's --signal=USR1@90


class StopRequest:
    """Whether somebody has asked the run to stop."""

    def __init__(self) -> None:
        self.received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Inside the block SIGTERM and SIGUSR1 only set the request; afterwards they do what they did before.

    Signals can be caught in the main thread only; elsewhere the request is never set.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def receive(number: int, _: object) -> None:
        request.received = number

    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deadline_after(minutes: float | None) -> float:
    """When to stop, on the clock of ``time.monotonic``; None: never."""
    return math.inf if minutes is None else time.monotonic() + 60 * minutes


def leave_paused(step: int, steps: int, unit: str = "step", quiet: bool = False) -> NoReturn:
    """Say how far it is, unless another process says so, and end with :data:`PAUSED`."""
    if not quiet:
        print(f"paused at {unit} {step} of {steps}; run the same command again to go on", file=sys.stderr)
    sys.exit(PAUSED)
