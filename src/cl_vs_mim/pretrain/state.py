"""The run folder: one training run's configuration, log, checkpoints and lock.

Snakemake deletes a rule's outputs before it runs it again, so the training state lives apart from them, in a folder
named by everything that decides the result. A checkpoint is a file of tensors and, written after it, a small JSON
file with its sha256; without that, or with another sha256, it does not count.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch

from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.errors import UserError, warn
from cl_vs_mim.core.files import atomic_path, clear_os_errors, sha256_file, sha256_json, write_json
from cl_vs_mim.core.tables import write_table
from cl_vs_mim.core.untrusted import open_regular, read_json, reason
from cl_vs_mim.encoder.checkpoints.files import require_harmless

FORMAT = 1  # of the training state and of the arithmetic; raised when a newer code cannot go on with an older run
_KEPT = 2  # checkpoints, and the newest good one beside them


def resolve_run(
    decides: Mapping[str, Any], code: Iterable[str], data_hash: str, files: Mapping[str, Path | None]
) -> dict[str, Any]:
    """Everything that decides the weights of a training, as plain data: the settings, the code and what is read.

    What the training code does belongs to it: after a change of the code an old run is neither gone on with nor
    exported again as if it were new.

    Args:
        decides: the settings, with the entry ``seed`` (for an encoder
            :func:`cl_vs_mim.config.encoders.decides_encoder`).
        code: modules whose closure trains.
        data_hash: hash of the training images' content.
        files: what else is read, by what it is for; None where there is none.

    Raises:
        UserError: one of the files is missing.
    """
    digests = {}
    for name, path in files.items():
        if path is not None and not Path(path).is_file():
            raise UserError(f"{path} does not exist; make it first")
        digests[name] = None if path is None else sha256_file(path)
    return {"format": FORMAT, **decides, "code": code_digest(*code), "data_hash": data_hash, "files": digests}


class RunFolder:
    """``<runs>/<model>_seed<k>_<12 hex of the resolved run>``, held by one process at a time.

    Use as a context manager; the lock is the operating system's and ends with the process, however it ends. Of several
    processes that train together the first one holds it; the others read only (``held=False``).
    """

    def __init__(self, runs: Path, name: str, resolved: Mapping[str, Any], held: bool = True) -> None:
        self._held = held
        self.digest = sha256_json(resolved)
        self.resolved = dict(resolved)
        self.path = Path(runs) / f"{name}_seed{resolved['seed']}_{self.digest[:12]}"
        self.metrics = self.path / "metrics.csv"
        self.watched: dict[str, Any] | None = None  # of the loss, in the checkpoint that was loaded
        self._lock = filelock.FileLock(self.path / "lock")

    def __enter__(self) -> RunFolder:
        if not self._held:
            return self
        with clear_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except filelock.Timeout as error:
                raise UserError(
                    f"another process is training in {self.path}; wait for it or stop it, then run this again"
                ) from error
        for leftover in self.path.rglob(".*.part*"):  # of a process that was killed while writing
            leftover.unlink()
        for leftover in self.path.glob("checkpoint_*.pt"):  # of one that was killed before it could vouch for it
            if not leftover.with_suffix(".json").exists():
                leftover.unlink()
        if not (self.path / "config.json").exists():
            write_json(self.path / "config.json", self.resolved)
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._lock.release()

    # ---- checkpoints -----------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """Checkpoints that were written to the end, newest first; their content is not checked here."""
        return sorted((path.with_suffix(".pt") for path in self.path.glob("checkpoint_*.json")), reverse=True)

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after ``step`` steps; the two newest checkpoints are kept, and the newest good one.

        Raises:
            UserError: the folder is full, read-only or gone.
        """
        self._still_there()
        path = self.path / f"checkpoint_{step:09d}.pt"
        with atomic_path(path) as temporary:
            with temporary.open("wb") as stream:  # not the path: torch's own writer hides why it failed
                torch.save({"step": step, **state}, stream)
            digest = sha256_file(temporary)
        write_json(path.with_suffix(".json"), {"step": step, "sha256": digest})
        found = self.checkpoints()
        good = next((one for one in found if self.is_good(one)), None)
        for old in found[_KEPT:]:
            if old != good:
                self._discard(old)
        return path

    def judge_newest(self, good: bool) -> None:
        """Write down whether the losses after the newest checkpoint were as they should be."""
        newest = next(iter(self.checkpoints()), None)
        if newest is not None and good and not self.is_good(newest):
            note = newest.with_suffix(".json")
            with suppress(ValueError, UserError):  # a damaged one is not good
                write_json(note, {**read_json(note), "good": True})

    @staticmethod
    def is_good(path: Path) -> bool:
        """Whether a checkpoint was judged to be good."""
        try:
            return bool(read_json(path.with_suffix(".json"))["good"])
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return False

    def load_good(self, device: torch.device) -> dict[str, Any] | None:
        """The newest whole state that is good, or None."""
        for path in filter(self.is_good, self.checkpoints()):
            with suppress(OSError, ValueError):  # a damaged one
                return self._load(path, device)
        return None

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps, so that no later start goes on from them."""
        for path in self.checkpoints():
            if int(path.stem.rpartition("_")[2]) > step:
                self._discard(path)

    def load_latest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest whole state, or None. Damaged checkpoints are named on the standard error stream and removed."""
        found = self.checkpoints()
        for path in found:
            try:
                state = self._load(path, device)
                self.watched = state.get("watch")
                return state
            except (OSError, ValueError, UserError) as error:
                warn(f"checkpoint {path} is damaged ({error}); going on with the one before")
                self._discard(path)
        if found:
            warn(f"no whole checkpoint is left in {self.path}; training starts again from step 0")
        return None

    @staticmethod
    def _load(path: Path, device: torch.device) -> dict[str, Any]:
        expected = read_json(path.with_suffix(".json"))
        if not isinstance(expected, dict) or sha256_file(path) != expected.get("sha256"):
            raise ValueError("its sha256 is not the recorded one")
        try:
            require_harmless(path)
            return torch.load(path, map_location=device, weights_only=True)  # tensors and plain data only, no code
        except Exception as error:  # a foreign file with a digest of its own can fail in any way
            raise ValueError(reason(error)) from error

    @staticmethod
    def _discard(path: Path) -> None:
        path.with_suffix(".json").unlink(missing_ok=True)  # first: without it the rest does not count
        path.unlink(missing_ok=True)

    def _still_there(self) -> None:
        """The folder, which somebody may have deleted while it was trained in.

        Raises:
            UserError: it is gone.
        """
        if not (self.path / "config.json").is_file():
            raise UserError(f"the run folder {self.path} was removed during the training; run the same command again")

    # ---- log -------------------------------------------------------------------------------------

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.csv``.

        Raises:
            UserError: the folder is full, read-only or gone.
        """
        self._still_there()
        with clear_os_errors(self.metrics), self.metrics.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if stream.tell() == 0:
                writer.writerow(row)
            writer.writerow(row.values())

    def cut_log(self, step: int) -> float:
        """Drop lines after ``step``: they will be written again. Returns the seconds of training up to there."""
        if not self.metrics.exists():
            return 0.0
        frame = self.read_log()
        if step == 0 or frame.empty:  # a kill may have come between opening the file and writing its first line
            self.metrics.unlink()
            return 0.0
        frame = frame[pd.to_numeric(frame["step"], errors="coerce") <= step]
        write_table(self.metrics, frame)
        return float(frame["seconds"].iloc[-1]) if len(frame) else 0.0

    def read_log(self) -> pd.DataFrame:
        """``metrics.csv``; a last line that a kill left half-written is dropped.

        Raises:
            UserError: there is none.
        """
        if not self.metrics.exists():
            raise UserError(f"the training log {self.metrics} is missing; delete {self.path} to train again")
        try:
            with open_regular(self.metrics, "table") as stream:
                return pd.read_csv(stream, on_bad_lines="skip").dropna(subset=["step", "seconds"])
        except (pd.errors.EmptyDataError, KeyError):  # not even its first line is whole
            return pd.DataFrame({"step": [], "seconds": []})
