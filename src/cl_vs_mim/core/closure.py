"""What code decides a result: the modules that a command imports, and all that those import, found from the source.

A digest of that closure stands among what decides a result (see :mod:`.commands`), so that a change of the code
rebuilds what depends on it, and a change of a comment, a docstring or a module elsewhere does not.

A module that decides no number says so itself, at its top: ``DECIDES_NO_RESULT = True`` (messages, progress bars, the
types of the configuration, whose values enter by themselves). Said in a package's ``__init__.py`` it holds for all of
the package. The closure neither counts nor follows such modules.

A module whose result depends on files beside it names them: ``DATA_FILES = ("templates/page.jinja",)``.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "cl_vs_mim"
_MARK = "DECIDES_NO_RESULT"
_FILES = "DATA_FILES"


def code_digest(*modules: str) -> str:
    """First 12 hex digits of the sha256 of what the closure of these modules does, and of their data files.

    Comments, docstrings and layout of the modules are left out.

    Args:
        modules: full names, such as ``cl_vs_mim.analysis.extract``, or files of a study's extensions (``….py``).

    Raises:
        ModuleNotFoundError: one of them does not exist.
        FileNotFoundError: a data file that one of them names does not exist.
    """
    digest = hashlib.sha256()
    for name in sorted(closure(modules)):
        label = Path(name).name if _is_file(name) else name  # wherever the extension lies
        digest.update(label.encode() + b"\0" + _code(name).encode())
        for path in _data_files(name):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def closure(modules: Iterable[str]) -> set[str]:
    """These modules and all modules of the project that they import, directly or not, wherever the import stands."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or not _decides(name):
            continue
        found.add(name)
        waiting += _imports(name)
    return found


# ------------------------------------------------------------------------------------------------
# Sources
# ------------------------------------------------------------------------------------------------


def _is_file(module: str) -> bool:
    return module.endswith(".py")


@cache
def _source(module: str) -> Path:
    if _is_file(module):
        return Path(module)
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"module {module}, whose code is to be digested, does not exist")
    return Path(spec.origin)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


@cache
def _decides(module: str) -> bool:
    """Whether neither the module nor a package around it says that it decides no result."""
    parts = module.split(".")
    if _is_file(module):
        return True  # a user's own
    around = [".".join(parts[: count + 1]) for count in range(1, len(parts))]
    return not any(
        isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == _MARK
        for name in around
        for node in _tree(name).body
    )


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of the project, or of its own package, that a module imports; a name of a package may be a module."""
    found = []
    roots = {PACKAGE, module.split(".")[0]}
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in roots and "." in alias.name]
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, node)
            if origin.split(".")[0] not in roots:
                continue
            inner = [f"{origin}.{alias.name}" for alias in node.names]
            submodules = [name for name in inner if _exists(name)]
            found += submodules
            if len(submodules) < len(inner) and origin not in roots:
                found.append(origin)
    return tuple(dict.fromkeys(found))


def _origin(module: str, node: ast.ImportFrom) -> str:
    """What ``from … import`` imports from, by its full name; dots at its beginning are counted from the module."""
    if not node.level or _is_file(module):
        return node.module or ""
    around = module.split(".")
    if _source(module).name != "__init__.py":
        around.pop()
    around = around[: len(around) - (node.level - 1)]
    return ".".join([*around, *filter(None, [node.module])])


@cache
def _exists(module: str) -> bool:
    package = _source(module.rpartition(".")[0])
    if package.name != "__init__.py":
        return False
    place = package.parent / module.rpartition(".")[2]
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


@cache
def _code(module: str) -> str:
    """The source without comments and docstrings."""
    tree = ast.parse(ast.unparse(_tree(module)))  # a copy
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


@cache
def _data_files(module: str) -> tuple[Path, ...]:
    """The files that the module names at its top, relative to itself; a literal, because the module is not run."""
    values = [
        ast.literal_eval(node.value)
        for node in _tree(module).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == _FILES
    ]
    return tuple(_source(module).parent / name for value in values for name in value)
