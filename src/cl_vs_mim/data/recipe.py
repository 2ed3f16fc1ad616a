"""What the recipes of all composed data sets have in common: the kit, the pieces made of it, and their parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from cl_vs_mim.config import Section
from cl_vs_mim.data.compose import Grain
from cl_vs_mim.data.kit import Kit
from cl_vs_mim.data.pieces import Pieces
from cl_vs_mim.data.scenery import Scenery

_Settings = TypeVar("_Settings", bound=Section)


class KitRecipe(ABC, Generic[_Settings]):
    """Base of recipes (see :class:`.writer.Recipe`); a subclass adds ``render`` and ``finish``.

    Attributes:
        name: the data set's name.
    """

    name: ClassVar[str]

    def __init__(self, kit: Kit, settings: _Settings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.kit = kit
        self.pieces = Pieces(kit, Scenery(kit))

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many images each part of the data set has."""

    def __len__(self) -> int:
        return sum(self.counts().values())

    def parameters(self) -> dict[str, Any]:
        """What decides the content."""
        return {
            "seed": self.seed,
            "kit_manifest_sha256": self.kit.manifest_sha256,
            "kit_tables_sha256": self.pieces.scenery.sha256,
            "settings": self.settings.model_dump(mode="json"),
            "counts": self.counts(),
        }

    @cached_property
    def _grain(self) -> Grain:
        return Grain()

    def __getstate__(self) -> dict[str, Any]:
        """Without what every worker makes again for itself."""
        made = {name for base in type(self).__mro__ for name, one in vars(base).items() if type(one) is cached_property}
        return {name: value for name, value in self.__dict__.items() if name not in made}
