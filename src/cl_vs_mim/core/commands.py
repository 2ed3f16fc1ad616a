"""A command of ``cl-vs-mim``: its name, what it runs, and what decides its result, stated once.

Each floor has a ``commands.py`` with ``COMMANDS``, a tuple of :class:`Command`. Those modules are quick to import: they
hold the typed functions that the command line is made of, and import what does the work inside them. What a command's
result is decided by serves three readers: the rule's ``params`` (Snakemake can say which entry changed), the head of
every row (its hash), and the run folder of a training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cl_vs_mim.core.closure import code_digest
from cl_vs_mim.core.files import sha256_json

Study = Any  # cl_vs_mim.config.Study, which stands above this floor

DECIDES_NO_RESULT = True


@dataclass(frozen=True)
class Command:
    """One verb.

    Attributes:
        name: the verb, such as ``extract``.
        run: a function whose keyword arguments, types and docstring are the command line.
        decides: (study, run) -> plain data: all settings that the result depends on, and none that it does not. ``run``
            is the stem of an encoder (``moco_v3_seed0``), or what else the command is run for (a data set, a figure).
        code: (study, run) -> full names of the modules where the work begins; their closure is digested.
    """

    name: str
    run: Callable[..., None]
    decides: Callable[[Study, str], dict[str, Any]]
    code: Callable[[Study, str], tuple[str, ...]]

    def decided(self, study: Study, run: str) -> dict[str, Any]:
        """What a rule's ``params`` hold: :attr:`decides` and the digest of the code."""
        return {**self.decides(study, run), "code": code_digest(*self.code(study, run))}

    def config_hash(self, study: Study, run: str) -> str:
        """Hex sha256 of :attr:`decides`, for the head of every row."""
        return sha256_json(self.decides(study, run))
