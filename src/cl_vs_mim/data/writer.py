"""Data sets that exist whole or not at all, whatever happens while they are written.

A data set is built in a hidden folder beside its target, ``.<name>.partial``, in shards. A shard's journal (one JSON
file with the sha256 of every picture) is written after its pictures, so what a journal vouches for is whole: a run
that was killed goes on from there if the parameters are the same, and starts again if they are not. At the end the
folder is renamed into place. ``manifest.json`` is in it; a folder without one counts as absent.

Pictures do not depend on the number of workers: each is made by a generator of its own, seeded by
``[seed, data set, split, index]``.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import multiprocessing
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd

from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError
from cl_vs_mim.core.files import clear_os_errors, sha256_file, sha256_json, write_json, write_text
from cl_vs_mim.core.progress import progress
from cl_vs_mim.core.untrusted import read_json, require_inside
from cl_vs_mim.data.identity import data_hash, read_manifest, verify

__all__ = ["Recipe", "Rendered", "build", "data_hash", "read_manifest", "verify"]

SHARD = 64  # pictures; what a kill loses at most, per worker
FORMAT = 1  # of the folder; raised when older data sets can no longer be read


@dataclass(frozen=True)
class Rendered:
    """One picture: its files (path inside the data set to content) and its row of whatever table follows."""

    files: dict[str, bytes]
    row: dict[str, Any]


class Recipe(Protocol):
    """How a data set is made. It is pickled once per worker; ``render`` must depend on ``index`` alone."""

    name: str

    def __len__(self) -> int: ...

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the content, JSON-able."""

    def render(self, index: int) -> Rendered: ...

    def finish(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """Write the tables that need all rows."""


# ------------------------------------------------------------------------------------------------
# Building
# ------------------------------------------------------------------------------------------------


def build(recipe: Recipe, target: Path, workers: int = 1, quiet: bool = False) -> dict[str, Any]:
    """Write the data set of ``recipe`` to the folder ``target`` and return its manifest.

    Nothing is done if ``target`` already holds exactly this data set. Another data set of ours there is replaced, a
    folder of anything else is refused.

    Raises:
        UserError: a kit file is bad, the disk is full or read-only, or another process is building the same folder.
    """
    target = Path(target).resolve()
    parameters = {
        "dataset": recipe.name,
        "format": FORMAT,
        "code": code_digest(__name__, type(recipe).__module__),
        "libraries": {"opencv": cv2.__version__, "numpy": np.__version__, "python": platform.python_version()},
        **recipe.parameters(),
    }
    digest = sha256_json(parameters)
    if (target / "manifest.json").is_file():
        manifest = read_manifest(target)
        if manifest.get("parameters_sha256") == digest and sha256_file(target / "files.csv") == manifest["data_hash"]:
            return manifest
    _refuse_foreign(target)
    partial = target.with_name(f".{target.name}.partial")
    with clear_os_errors(target):
        if partial.is_symlink():  # it would lead what is written elsewhere
            partial.unlink()
        partial.mkdir(parents=True, exist_ok=True)
        with _only_process(partial):
            journals = _open_partial(partial, digest)
            try:
                rows, files = _render_all(recipe, partial, journals, workers, quiet)
            except Exception:
                if not any(journals.iterdir()):  # nothing that a next run could go on from
                    shutil.rmtree(partial, ignore_errors=True)
                raise
            recipe.finish(partial, rows)
            manifest = _seal(partial, recipe, parameters, digest, files)
            shutil.rmtree(journals)
            (partial / "partial.json").unlink()
            _replace_folder(partial, target)
    return manifest


def _render_all(
    recipe: Recipe, partial: Path, journals: Path, workers: int, quiet: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Render the shards that are not whole yet; returns all rows in order and path -> sha256."""
    shards = [range(start, min(start + SHARD, len(recipe))) for start in range(0, len(recipe), SHARD)]
    done = {number: journal for number in range(len(shards)) if (journal := _whole_shard(partial, journals, number))}
    missing = [number for number in range(len(shards)) if number not in done]
    whole = sum(len(shards[number]) for number in done)
    with progress(total=len(recipe), initial=whole, desc=f"compose {recipe.name}", unit="image", quiet=quiet) as bar:
        for number, journal in _run(recipe, partial, journals, shards, missing, workers):
            done[number] = journal
            bar.update(len(shards[number]))
    rows = [row for number in range(len(shards)) for row in done[number]["rows"]]
    files = {path: sha for number in range(len(shards)) for path, sha in done[number]["files"].items()}
    return rows, files


def _run(
    recipe: Recipe, partial: Path, journals: Path, shards: list[range], missing: list[int], workers: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (shard number, journal) as the shards are finished."""
    workers = min(workers, len(missing))
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        try:
            for number in missing:
                yield number, _make_shard(recipe, partial, journals, number, shards[number])
        finally:
            cv2.setNumThreads(threads)
        return
    # Forked, not spawned: the workers inherit the lock on the folder, and start at once.
    context = multiprocessing.get_context("fork")
    queue = iter(missing)
    with ProcessPoolExecutor(workers, context, _start_worker, (recipe, partial, journals, os.getpid())) as pool:
        pending: dict[Future, int] = {}
        try:
            while True:
                while len(pending) < 2 * workers and (following := next(queue, None)) is not None:
                    pending[pool.submit(_work, following, shards[following])] = following
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a composing process was killed, probably for lack of memory; run the same command again with fewer "
                "workers, it goes on where it stopped"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Recipe, Path, Path] | None = None  # of this worker process; set once when it starts


def _start_worker(recipe: Recipe, partial: Path, journals: Path, parent: int) -> None:
    global _worker
    cv2.setNumThreads(0)  # the processes are the parallelism
    _worker = (recipe, partial, journals)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this worker when its parent has been killed; it would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)


def _work(number: int, indices: range) -> dict[str, Any]:
    assert _worker is not None
    return _make_shard(*_worker, number, indices)


def _make_shard(recipe: Recipe, partial: Path, journals: Path, number: int, indices: range) -> dict[str, Any]:
    """Render and write one shard, then its journal."""
    rows, files = [], {}
    with clear_os_errors(partial):
        for index in indices:
            rendered = recipe.render(index)
            rows.append(rendered.row)
            for name, content in rendered.files.items():
                require_inside(partial, name)
                _write(partial / name, content)
                files[name] = hashlib.sha256(content).hexdigest()
        journal = {"rows": rows, "files": files}
        write_text(journals / f"{number:06d}.json", json.dumps(journal))
    return journal


def _write(path: Path, content: bytes) -> None:
    try:
        stream = open(path, "wb", buffering=0)  # noqa: PTH123, SIM115 - half the time of Path.write_bytes
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("wb", buffering=0)
    with stream:
        view = memoryview(content)
        while view:  # a full disk can end a write early without an error
            view = view[stream.write(view) :]


# ------------------------------------------------------------------------------------------------
# The partial folder
# ------------------------------------------------------------------------------------------------


def _open_partial(partial: Path, digest: str) -> Path:
    """Empty the partial folder unless it is of the same parameters; returns its folder of journals."""
    state = partial / "partial.json"
    journals = partial / ".journal"
    try:
        same = read_json(state)["parameters_sha256"] == digest
    except (OSError, ValueError, KeyError, TypeError, UserError):
        same = False
    if not same:
        for child in partial.iterdir():
            if child.name != _LOCK:
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        write_json(state, {"parameters_sha256": digest})
    journals.mkdir(exist_ok=True)
    return journals


def _whole_shard(partial: Path, journals: Path, number: int) -> dict[str, Any] | None:
    """The shard's journal if it and every file it names are undamaged."""
    try:
        journal = read_json(journals / f"{number:06d}.json")
        for name in journal["files"]:
            require_inside(partial, name)
        whole = all(sha256_file(partial / name) == sha for name, sha in journal["files"].items())
        return journal if whole and "rows" in journal else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None


def _seal(
    partial: Path, recipe: Recipe, parameters: dict[str, Any], digest: str, files: dict[str, str]
) -> dict[str, Any]:
    """Write ``files.csv`` and, last, ``manifest.json``; anything that belongs to neither is swept away."""
    own = {"partial.json", "manifest.json", "files.csv", _LOCK}
    for path in sorted(partial.rglob("*")):
        name = path.relative_to(partial).as_posix()
        if path.is_dir() or name in own or name.startswith(".journal/"):
            continue
        if path.name.startswith("."):  # a temporary file of a killed run
            path.unlink()
        elif name not in files:
            files[name] = sha256_file(path)
    table = pd.DataFrame(sorted(files.items()), columns=["path", "sha256"])
    table.to_csv(partial / "files.csv", index=False, lineterminator="\n")
    manifest = {
        "dataset": recipe.name,
        "data_hash": sha256_file(partial / "files.csv"),
        "images": len(recipe),
        "files": len(table),
        "parameters_sha256": digest,
        "parameters": parameters,
    }
    write_json(partial / "manifest.json", manifest)
    return manifest


def _refuse_foreign(target: Path) -> None:
    """Only an empty folder or a data set of ours, finished or not, may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise UserError(f"{target} is a file; choose a folder for the data set")
    ours = (target / "files.csv").is_file() or (target / "manifest.json").is_file()
    if not ours and any(target.iterdir()):
        raise UserError(f"{target} holds something that is no data set of ours; choose an empty or a new folder")


def _replace_folder(partial: Path, target: Path) -> None:
    """Rename ``partial`` to ``target``; what stood there is moved aside first and removed afterwards."""
    (partial / _LOCK).unlink()
    old = target.with_name(f".{target.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    if old.exists():
        shutil.rmtree(old)


_LOCK = ".lock"


@contextmanager
def _only_process(partial: Path, patience: float = 15.0) -> Iterator[None]:
    """Hold the folder's lock. Workers inherit it, so it outlives a killed parent until they are gone (under 1 s)."""
    descriptor = os.open(partial / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)  # waits for nobody, were it a pipe
    with os.fdopen(descriptor, "wb", buffering=0) as stream:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UserError(f"another process is writing {partial}; wait for it or stop it") from None
                time.sleep(0.1)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                    raise
                break  # some network file systems have no locks; the journal still keeps what is written whole
        yield
