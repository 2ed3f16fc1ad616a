"""Faults of files that worker processes read, brought to the main process as the one line that they are.

torch's DataLoader raises an exception of a worker again with the worker's whole traceback as its message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from torch.utils.data import Dataset

from cl_vs_mim.core.errors import UserError

DECIDES_NO_RESULT = True  # items pass as they are

_Batch = TypeVar("_Batch")


@dataclass(frozen=True)
class _Fault:
    message: str


class Carried(Dataset):
    """The items of a data set; one whose file is at fault is the fault. See :func:`delivered`."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        try:
            return self.items[position]
        except UserError as error:
            return _Fault(str(error))


def delivered(batch: _Batch) -> _Batch:
    """A batch of a loader of :class:`Carried` items.

    Raises:
        UserError: it is a fault, or has one among its items.
    """
    for item in batch if isinstance(batch, list | tuple) else [batch]:
        if isinstance(item, _Fault):
            raise UserError(item.message)
    return batch
