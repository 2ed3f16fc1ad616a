"""The section ``transfer`` of a study: a key for each registered task whose settings are there.

Tasks stand above this floor, and their settings are found through the register when the first study is read. So a new
task is one module or folder, whose keys are checked like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from cl_vs_mim.config.sections import Section
from cl_vs_mim.core.registry import Register

TASKS = Register("task", "cl_vs_mim.transfer", "TASK")
_SECTION = "transfer."


@dataclass(frozen=True)
class BuiltFrom:
    """Mark of a field whose section is put together when it is first needed: ``Annotated[Section, BuiltFrom(…)]``."""

    build: Callable[[], type[BaseModel]]

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        """Values are checked by the section that :attr:`build` gives; its errors keep their place."""
        return core_schema.no_info_plain_validator_function(lambda value: self.build().model_validate(value))


def transfer_section() -> type[Section]:
    """The section as a class with a field for each task; absent ones are not done in a study."""
    tasks = [TASKS[name] for name in TASKS.names()]
    return _section(
        tuple(
            (task.section.removeprefix(_SECTION), task.settings) for task in tasks if task.section.startswith(_SECTION)
        )
    )


@cache
def _section(fields: tuple[tuple[str, type[Section]], ...]) -> type[Section]:
    kinds: dict[str, Any] = {key: (settings | None, None) for key, settings in fields}
    return create_model("Transfer", __base__=Section, __doc__="What encoders are good for.", **kinds)


Transfer = Annotated[Section, BuiltFrom(transfer_section)]
