"""``cl-vs-mim`` in a shell without the wait for its libraries: forked from a process that has imported them.

The whole workflow at its smallest scale is a hundred commands, most of which import torch and compute next to nothing.
In the environment of :func:`preloaded` the shells of the rules call this file instead of the console script. It hands
its words, environment, folder and standard streams to a process that has imported the libraries and the command line,
and ends as the ``cli.main`` does that is forked off there. Where there is no such process, it becomes the console
script.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LIBRARIES = (
    "cv2",
    "lightning_fabric",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.manifold",
    "timm.models",
    "timm.optim",
    "torch.utils.tensorboard",
    "torchvision.transforms.v2",
)
_NO_THREADS = {
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of the allocator that comes with pyarrow
}
_LONGEST = 1 << 20  # bytes of a message: more than a command and its environment have
_ERRORS = "surrogateescape"  # what is no UTF-8 comes through

# ------------------------------------------------------------------------------------------------
# For tests
# ------------------------------------------------------------------------------------------------


@contextmanager
def preloaded(folder: Path, libraries: Sequence[str] = LIBRARIES) -> Iterator[dict[str, str]]:
    """Within it, shells with these variables in their environment have ``cl-vs-mim`` run as this file says.

    Nothing of it is left afterwards, whatever a command was doing.

    Args:
        folder: for a socket and a log; its path is short (a socket's has 107 bytes at most).
        libraries: modules to import beforehand.
    """
    import shlex
    import subprocess
    from pathlib import Path

    place, hook, script = folder / "socket", folder / "hook.sh", Path(sys.executable).with_name("cl-vs-mim")
    called = [sys.executable, "-I", "-S", __file__, "call", str(place), str(script)]
    hook.write_text(f'cl-vs-mim() {{ {shlex.join(called)} "$@"; }}\n')
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, __file__, "serve", str(place), *libraries],
            env=os.environ | _NO_THREADS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()  # until it listens, or has ended
        yield {"BASH_ENV": str(hook)}


# ------------------------------------------------------------------------------------------------
# In the place of the console script: as little Python as can be
# ------------------------------------------------------------------------------------------------


def call(place: str, script: str, words: list[str]) -> None:
    """Have the command run by the process that listens at ``place``, and end as it does; never returns."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(place)
    except OSError:
        os.execv(script, [script, *words])
    entries = [f"{name}={value}" for name, value in os.environ.items()]
    message = "\0".join([os.getcwd(), str(len(words)), script, *words, *entries])  # noqa: PTH109 - quicker
    socket.send_fds(line, [message.encode(errors=_ERRORS)], [0, 1, 2])
    status = line.recv(16)
    sys.exit(int(status) if status else "the process that ran the command was killed")


# ------------------------------------------------------------------------------------------------
# The process with the libraries
# ------------------------------------------------------------------------------------------------


def serve(place: str, libraries: list[str]) -> None:
    """Fork a process for every call, until standard input ends; returns in those processes, and only there."""
    import gc
    import select
    import signal
    from importlib import import_module

    for name in libraries:
        with suppress(ImportError):  # what is not installed, no rule needs
            import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        sys.exit("a library has started threads, which a forked process would lack")
    gc.freeze()  # a collection would touch, and so copy, all of it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(place)
    listener.listen()
    print("listening", flush=True)
    while select.select([0, listener], [], [])[0] == [listener]:
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            message, streams, _, _ = socket.recv_fds(line, _LONGEST, 3)
            if (command := os.fork()) == 0:
                line.close()
                return _become(message.decode(errors=_ERRORS).split("\0"), streams)
            status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
            line.send(str(status if status >= 0 else 128 - status).encode())
            os._exit(0)
        line.close()
        with suppress(ChildProcessError):  # there are none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os.killpg(0, signal.SIGKILL)  # with all that was forked


def _become(told: list[str], streams: list[int]) -> None:
    """Take over the folder, the words, the environment and the standard streams of who called."""
    folder, count, script, *rest = told
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(entry.split("=", 1) for entry in rest[int(count) :])
    sys.argv = [script, *rest[: int(count)]]


if __name__ == "__main__":
    if sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3], sys.argv[4:])
    sys.path.pop(0)  # this folder, where the console script has its own
    from cl_vs_mim.cli import main

    serve(sys.argv[2], sys.argv[3:])
    sys.exit(main())
