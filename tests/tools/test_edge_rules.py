"""The table that tells Envoy's Lua what a REST request may hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools import edge_rules, gen
from tools.openapi.contract import UnsupportedContractError

CONTRACT = """\
syntax = "proto3";
package dragoman.v1;
import "google/api/annotations.proto";
import "google/protobuf/struct.proto";
service S {{ rpc Do(In) returns (Other) {{ option (google.api.http) = {{ {rule} }}; }} }}
message In {{ {fields} }}
message Other {{ bool deep_one = 1; }}
"""


def table(tmp_path: Path, fields: str, rule: str) -> str:
    """The table for a contract of one RPC with these request fields and this REST binding."""
    (tmp_path / "one.proto").write_text(CONTRACT.format(fields=fields, rule=rule))
    out = tmp_path / "one.pb"
    flags = ["--include_imports", f"--descriptor_set_out={out}"]
    gen.compile_protos([tmp_path, gen.ROOT / "third_party"], ["one.proto"], *flags)
    return edge_rules.render(FileDescriptorSet.FromString(out.read_bytes()))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("/ai/llm/{id}", "^/ai/llm/[^/]+$"),
        ("/ai/llm/{id}/validate", "^/ai/llm/[^/]+/validate$"),
        ("/api/v1/models/{id=**}", "^/api/v1/models/.+$"),
        ("/a-b.c/{id}:do", "^/a%-b%.c/[^/]+:do$"),
    ],
)
def test_path_templates_are_lua_patterns(template: str, expected: str) -> None:
    """Variables match as google.api.http says, and nothing else in a path is magic to Lua."""
    assert edge_rules.pattern(template) == expected


@pytest.mark.parametrize(
    ("field", "lines"),
    [
        ("string one_value = 1;", ['["one_value"] = false,', '["oneValue"] = false,']),
        ('string one_value = 1 [json_name = "else"];', ['["one_value"] = false,', '["else"] = false,']),
        ("repeated string many = 1;", ['["many"] = true,']),
        ("map<string, int32> counts = 1;", ['["counts"] = true,']),
        ("google.protobuf.Struct free = 1;", ['["free"] = true,']),
        ("repeated Other others = 1;", ['["others"] = "dragoman.v1.Other",', '["deepOne"] = false,']),
        ("In again = 1;", ['["again"] = "dragoman.v1.In",']),
    ],
)
def test_fields_have_both_names_and_their_kind(tmp_path: Path, field: str, lines: list[str]) -> None:
    """A plain value is false, lists and maps of them and free JSON true; messages are named, and described in turn."""
    found = [line.strip() for line in table(tmp_path, field, 'post: "/do" body: "*"').splitlines()]
    assert '["/do"] = {POST = "dragoman.v1.In"},' in found
    assert set(lines) <= set(found)


def test_calls_without_a_body_say_so(tmp_path: Path) -> None:
    """A GET has no request message, and its message is not in the table."""
    found = table(tmp_path, "string id = 1;", 'get: "/do/{id}" additional_bindings { delete: "/do/{id}" }')
    assert '{"^/do/[^/]+$", {DELETE = false, GET = false}},' in found
    assert "dragoman.v1.In" not in found


def test_a_body_that_the_server_reads_by_itself_is_any_body(tmp_path: Path) -> None:
    """HttpBody is no message that the edge could hold a body against."""
    (tmp_path / "one.proto").write_text(
        'syntax = "proto3"; package dragoman.v1;'
        'import "google/api/annotations.proto"; import "google/api/httpbody.proto";'
        "service S { rpc Do(google.api.HttpBody) returns (stream google.api.HttpBody) {"
        'option (google.api.http) = { post: "/v1/do" body: "*" }; } }'
    )
    out = tmp_path / "one.pb"
    flags = ["--include_imports", f"--descriptor_set_out={out}"]
    gen.compile_protos([tmp_path, gen.ROOT / "third_party"], ["one.proto"], *flags)
    found = edge_rules.render(FileDescriptorSet.FromString(out.read_bytes()))
    assert '["/v1/do"] = {POST = true},' in found
    assert "HttpBody" not in found


@pytest.mark.parametrize(
    ("field", "rule", "words"),
    [
        ("map<string, Other> others = 1;", 'post: "/do" body: "*"', "a map of messages"),
        ("Other other = 1;", 'post: "/do" body: "other"', "only plain verbs"),
        ("Other other = 1;", 'custom: {kind: "HEAD" path: "/do"}', "only plain verbs"),
    ],
)
def test_what_the_table_cannot_describe_is_refused(tmp_path: Path, field: str, rule: str, words: str) -> None:
    """What would be let through unchecked stops the generation instead."""
    with pytest.raises(UnsupportedContractError, match=words):
        table(tmp_path, field, rule)
