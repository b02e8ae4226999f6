"""The import contracts that are ours catch what they are for, and pass what is allowed."""

from __future__ import annotations

import pytest
from grimp import ImportGraph

from tools.floors import ListedContract, PureContract, ReservedContract

SESSION = {"root_packages": ["server"]}
RESERVED = {"packages": ["grpc"], "importers": ["server.rpc", "server.__main__"]}
PURE = {"source_modules": ["server.core"], "allowed": ["msgspec"], "impure": ["os", "urllib"]}


def graph(*imports: tuple[str, str]) -> ImportGraph:
    """A graph of these imports, as (importer, imported); what is not ours is squashed, as import-linter has it."""
    result = ImportGraph()
    for importer, imported in imports:
        for module in (importer, imported):
            if module not in result.modules:
                result.add_module(module, is_squashed=not module.startswith("server"))
        result.add_import(importer=importer, imported=imported)
    return result


def contract(kind: type[ListedContract], options: dict[str, list[str]]) -> ListedContract:
    """A contract as import-linter makes it from its configuration."""
    return kind("under test", session_options=SESSION, contract_options=options)


@pytest.mark.parametrize(
    ("importer", "imported", "kept"),
    [
        ("server.rpc.chat", "grpc", True),
        ("server.__main__", "grpc", True),
        ("server.rpc", "server.core", True),
        ("server.services.gateway", "grpcio_tools", True),
        ("server.services.gateway", "grpc", False),
        ("server.rpcs", "grpc", False),
    ],
)
def test_a_reserved_library_is_imported_from_its_rooms_alone(importer: str, imported: str, kept: bool) -> None:
    """A room that nobody named is not free to import it, nor is one whose name only begins like an allowed one."""
    check = contract(ReservedContract, RESERVED).check(graph((importer, imported)), verbose=False)
    assert check.kept is kept
    assert check.metadata["imports"] == ([] if kept else [(importer, imported)])


@pytest.mark.parametrize(
    ("importer", "imported", "kept"),
    [
        ("server.core.messages", "msgspec", True),
        ("server.core.messages", "dataclasses", True),
        ("server.core.messages", "server.core.ids", True),
        ("server.core.messages", "httpx", False),
        ("server.core.messages", "os", False),
        ("server.store", "os", True),
    ],
)
def test_a_pure_room_imports_its_libraries_and_the_pure_standard_library(
    importer: str, imported: str, kept: bool
) -> None:
    """Only the room itself is held to it."""
    assert contract(PureContract, PURE).check(graph((importer, imported)), verbose=False).kept is kept
