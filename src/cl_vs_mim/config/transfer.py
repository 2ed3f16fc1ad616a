"""What encoders are transferred to; each task is left out where its section is."""

from __future__ import annotations

from cl_vs_mim.config.detection import Detection
from cl_vs_mim.config.sections import Section


class Transfer(Section):
    """Tasks on which encoders are trained further."""

    detection: Detection | None = None
