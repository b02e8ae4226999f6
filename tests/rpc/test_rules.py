"""No RPC without a rule: the table is held against everything that the server registers."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from server.core.access import Role
from server.core.audit import ObjectKind
from server.rpc.audit import ACTIONS
from server.rpc.register import SERVICES
from server.rpc.rules import RULES

CONTRACT = Path(__file__).parents[2] / "gen" / "descriptors" / "dragoman.pb"


def contract() -> descriptor_pb2.FileDescriptorSet:
    described = descriptor_pb2.FileDescriptorSet()
    described.ParseFromString(CONTRACT.read_bytes())
    return described


def contract_methods() -> set[str]:
    return {
        f"/{file.package}.{service.name}/{method.name}"
        for file in contract().file
        if file.package.startswith("dragoman.")
        for service in file.service
        for method in service.method
    }


def foreign_methods() -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    assert set(RULES) == contract_methods() | foreign_methods()


def test_every_service_of_the_contract_is_registered() -> None:
    assert set(SERVICES) == {method.split("/")[1] for method in contract_methods()}


@pytest.mark.parametrize("method", sorted(RULES))
def test_only_probes_and_the_contract_itself_are_public(method: str) -> None:
    service = method.split("/")[1]
    public = service in {
        "dragoman.v1.StatusService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert (RULES[method] == "public") is public


@pytest.mark.parametrize("verb", ["Create", "Update", "Delete", "Validate"])
def test_whoever_changes_configurations_is_an_admin(verb: str) -> None:
    assert RULES[f"/dragoman.v1.ProviderConfigService/{verb}ProviderConfig"] is Role.ADMIN


@pytest.mark.parametrize("method", sorted(method for method, rule in RULES.items() if rule != "public"))
def test_every_method_that_needs_a_key_has_a_name_in_the_audit_log(method: str) -> None:
    object_kind, _, verb = ACTIONS[method].partition(".")
    assert object_kind in get_args(ObjectKind)
    assert (verb in ("read", "call")) or RULES[method] in (Role.ADMIN, Role.ORG_ADMIN)
