"""Two kinds of import-linter contract that it lacks: who may import a library, and what a pure room may import.

import-linter's own "forbidden" lists who may not, so a new room would be free by default, and it fails on a room that
does not exist yet. These say who may; everyone else may not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def is_in(module: str, rooms: Iterable[str]) -> bool:
    """Whether a module is one of the rooms or lies in one."""
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def external_imports(graph: ImportGraph, root: str) -> Iterable[tuple[str, str]]:
    """All direct imports, as (importer, imported), that leave the package."""
    for importer in sorted(graph.modules):
        if is_in(importer, [root]):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if not is_in(imported, [root]):
                    yield importer, imported


class ListedContract(Contract):
    """A contract whose breaches are a list of imports."""

    def breaches(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        """The (importer, imported) pairs that the contract does not allow."""
        raise NotImplementedError

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - the linter's signature
        """Called by import-linter."""
        found = list(self.breaches(graph))
        return ContractCheck(kept=not found, metadata={"imports": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Called by import-linter."""
        for importer, imported in check.metadata["imports"]:
            output.print_error(f"{importer} may not import {imported}", bold=False)


class ReservedContract(ListedContract):
    """``packages`` (libraries) are imported by ``importers`` and what lies in them, and by no other module of ours."""

    type_name = "reserved"

    packages = fields.SetField(subfield=fields.StringField())
    importers = fields.SetField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        """Imports of a reserved library from elsewhere."""
        packages, importers = set(self.packages), set(self.importers)  # type: ignore[call-overload]
        return [
            (importer, imported)
            for importer, imported in external_imports(graph, "server")
            if is_in(imported, packages) and not is_in(importer, importers)
        ]


class PureContract(ListedContract):
    """``source_modules`` import the standard library, less its ``impure`` modules, and the ``allowed`` libraries."""

    type_name = "pure"

    source_modules = fields.SetField(subfield=fields.StringField())
    allowed = fields.SetField(subfield=fields.StringField())
    impure = fields.SetField(subfield=fields.StringField())

    def breaches(self, graph: ImportGraph) -> Iterable[tuple[str, str]]:
        """Imports of another library, or of an impure module."""
        sources, allowed, impure = set(self.source_modules), set(self.allowed), set(self.impure)  # type: ignore[call-overload]
        return [
            (importer, imported)
            for importer, imported in external_imports(graph, "server")
            if is_in(importer, sources)
            and (is_in(imported, impure) or not is_in(imported, allowed | sys.stdlib_module_names))
        ]
