"""Whether a loss is where it should be, which decides what checkpoint is good.

The weights after step s are judged by the losses of the steps that follow, up to the next checkpoint: all of them have
to be finite and near the running mean. A loss that grows for some steps before it is infinite spoils the checkpoints
on the way, and a rollback returns to one from before.
"""

from __future__ import annotations

import math
from typing import Any

_MEMORY = 0.95  # weight of the past in the running mean
_SPREADS = 8.0  # mean distances from the running mean that are still near
_SETTLING = 5  # steps after which the spread means something


class LossWatch:
    """A running mean of the loss, and what the losses have been since the last checkpoint."""

    def __init__(self) -> None:
        self.mean = self.spread = 0.0
        self.count = 0
        self._near = self._astray = 0  # since the last checkpoint

    def add(self, loss: float) -> None:
        """The loss of a step, finite or not."""
        if not (math.isfinite(loss) and (self.count == 0 or loss <= self._bound())):
            self._astray += 1
        else:
            self._near += 1
        if not math.isfinite(loss):
            return
        loss = loss if self.count == 0 else min(loss, self._bound())  # what is astray moves the mean a little only
        memory = min(_MEMORY, self.count / (self.count + 1))
        self.spread = memory * self.spread + (1 - memory) * abs(loss - self.mean) if self.count else 0.0
        self.mean = memory * self.mean + (1 - memory) * loss
        self.count += 1

    def _bound(self) -> float:
        spreads = _SPREADS * self.spread if self.count >= _SETTLING else 0.0
        return self.mean + max(spreads, abs(self.mean))

    @property
    def good(self) -> bool:
        """Whether the last checkpoint is: there were losses after it, and all were near."""
        return self._near > 0 and self._astray == 0

    def saved(self) -> None:
        """A checkpoint was written: what follows judges that one."""
        self._near = self._astray = 0

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"mean": self.mean, "spread": self.spread, "count": self.count}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from :meth:`state`; from the beginning where a checkpoint has none."""
        state = state or {"mean": 0.0, "spread": 0.0, "count": 0}
        self.mean, self.spread, self.count = state["mean"], state["spread"], state["count"]
        self.saved()
