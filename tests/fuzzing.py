"""Files that nobody would write, for the five readers of files of others: ``make fuzz MINUTES=10``.

Each reader gets whole files with a few bytes changed, and files whose content is changed value by value. Whatever
comes, it reads the file or raises the project's own error, which names the file; it needs little memory and ends soon.
What is accepted is used as the project would use it: a mask is decoded, an image has its size.

    python tests/fuzzing.py --minutes 10                 all five, a fifth of the time each
    python tests/fuzzing.py --reader image --seed 7      one of them, from a chosen start
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cl_vs_mim.core.errors import UserError
from fuzz_readers import READERS

SLOW = 20.0  # seconds that no file of a few kB may take
GROWTH = 2_000_000_000  # bytes that no file of a few kB may cost


def attack(name: str, examples: int, start: int) -> dict[str, int]:
    """That many files for one reader, from this seed; returns how many were read and how many refused.

    Raises:
        Exception: what a reader raised and should not have; hypothesis has made the file as small as it could.
    """
    reader = READERS[name]()
    counts = {"read": 0, "refused": 0}

    @seed(start)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=reader.files, choice=st.integers(0, 11))
    def one(content: bytes, choice: int) -> None:
        faulthandler.dump_traceback_later(SLOW, exit=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder) / f"smoke{reader.suffix}"
            path.write_bytes(content)
            try:
                reader.read(path, choice)
                counts["read"] += 1
            except UserError as error:
                assert folder in str(error), f"the file is not named: {error}"
                counts["refused"] += 1
            finally:
                faulthandler.cancel_dump_traceback_later()
        assert time.monotonic() - began < SLOW / 2, "too slow"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GROWTH, "too much memory"

    one()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="in all")
    parser.add_argument("--reader", choices=READERS, action="append", help="only this one; may be given several times")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; one of the clock without it")
    arguments = parser.parse_args()
    names = arguments.reader or list(READERS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * GROWTH, used + 2 * GROWTH))
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    start = random.SystemRandom().randrange(10**9) if arguments.seed is None else arguments.seed
    for name in names:
        end, rounds, total = time.monotonic() + 60 * arguments.minutes / len(names), 0, {"read": 0, "refused": 0}
        while time.monotonic() < end:
            print(f"{name}: seed {start + rounds}", end="\r", file=sys.stderr, flush=True)
            counts = attack(name, 200, start + rounds)
            total = {key: total[key] + counts[key] for key in total}
            rounds += 1
        print(f"{name}: {total['read']} files read, {total['refused']} refused, nothing else (seeds from {start})")


if __name__ == "__main__":
    main()
