"""Run one step of the set-up with its output in a log, and explain what went wrong. Standard library, Python 3.8 on."""

import os
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".setup"  # uv, the log and the process lock: kept when .venv is rebuilt
LOG = STATE / "setup.log"
DISK_GB = 7  # the environment takes 6.0; uv's cache shares these files when it lies on the same file system


class SetupError(Exception):
    """Something the user can mend; the message says how."""


# ----------------------------------------------------------------------------------------------------------------------
# What the output of a failed step shows -> what to do. The first that matches wins.
# ----------------------------------------------------------------------------------------------------------------------
CAUSES = [
    (
        r"No space left on device|Disk quota exceeded|os error (28|122)\b",
        f"no disk space: about {DISK_GB} GB are needed in {ROOT} and, if it lies on another disk, in uv's cache. "
        "Free some space, or set UV_CACHE_DIR to a larger disk.",
    ),
    (
        r"[Hh]ash(es)? mismatch|DO NOT MATCH THE HASHES",
        "a downloaded file is not the one in the lock: an index or a proxy has altered it. "
        "Check PIP_INDEX_URL, UV_DEFAULT_INDEX and UV_INDEX.",
    ),
    (
        r"[Ff]ailed to fetch|error sending request|dns error|[Cc]onnection (refused|reset)|[Nn]etwork is unreachable"
        r"|timed out|NewConnectionError|ConnectTimeout|name resolution|Name or service not known|ProxyError|SSLError"
        r"|\(from versions: none\)",  # pip, when it has been told not to retry
        "no network: the package index cannot be reached. Check the connection, the proxy (HTTPS_PROXY), and "
        "PIP_INDEX_URL or UV_DEFAULT_INDEX if you use a mirror.",
    ),
    (
        r"No matching distribution|was not found in the package registry|there is no version of",
        "the package index lacks a pinned package. If you use a mirror (PIP_INDEX_URL, UV_DEFAULT_INDEX, UV_INDEX), "
        "try without it.",
    ),
    (
        r"No module named '?(venv|ensurepip|pip)\b|ensurepip is not",
        "this Python lacks the module venv or pip. Debian, Ubuntu: apt install python3-venv python3-pip.",
    ),
    (
        r"Permission denied|Read-only file system",
        f"a file cannot be written. Check who owns {ROOT} and uv's cache, and that the disk is not read-only.",
    ),
]


def diagnosis(output):
    """What to do, in one line; then the last lines of the failed step."""
    advice = next((text for pattern, text in CAUSES if re.search(pattern, output)), "a step of the set-up failed.")
    tail = "".join(f"\n    {line[:200]}" for line in output.strip().splitlines()[-6:])
    return f"{advice} Then run the same command again.\n  Last lines ({LOG} has all):{tail}"


# ----------------------------------------------------------------------------------------------------------------------
# Running
# ----------------------------------------------------------------------------------------------------------------------
def environment():
    """The user's environment, with pip's index and certificate handed on to uv, which reads only its own settings."""
    env = dict(os.environ, UV_PYTHON_DOWNLOADS="never", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    if "PIP_INDEX_URL" in env and not {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX"} & set(env):
        env["UV_DEFAULT_INDEX"] = env["PIP_INDEX_URL"]
    if "PIP_CERT" in env:
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        env.pop(name, None)
    return env


def run(title, command, lock):
    """Run one step: its title on the terminal, a sign of life every 15 seconds, everything it prints in the log.

    ``lock`` is the open lock file. Raises SetupError when the step fails.
    """
    print(f"  {title}", flush=True)
    start, started = LOG.stat().st_size, time.monotonic()
    with LOG.open("a") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=str(ROOT),
            env=environment(),
            pass_fds=[lock.fileno()],  # were we killed, the next set-up would wait until this step has ended
        )
    try:
        while True:
            try:
                process.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                print(f"    {time.monotonic() - started:.0f} s …", flush=True)
    finally:
        if process.poll() is None:  # interrupted from the keyboard
            process.terminate()
            process.wait()
    if process.returncode:
        with LOG.open("rb") as log:
            log.seek(start)
            raise SetupError(diagnosis(log.read().decode(errors="replace")))
