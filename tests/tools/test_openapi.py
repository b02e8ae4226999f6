"""The OpenAPI document says what the contract says, and refuses what it could not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2

from tools import gen, openapi

ROOT = Path(gen.__file__).resolve().parent.parent
HEAD = """\
syntax = "proto3";
package dragoman.v1;
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
"""
SERVICE = "service S {{ rpc Do(In) returns ({answer}) {{ option (google.api.http) = {{{rule}}}; }} }}\n"


def document(tmp_path: Path, text: str) -> dict[str, Any]:
    """The document for a contract of one file."""
    (tmp_path / "one.proto").write_text(HEAD + text)
    out = tmp_path / "one.pb"
    flags = ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
    gen.compile_protos([tmp_path, ROOT / "third_party"], ["one.proto"], *flags)
    return openapi.document(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()))


def field_schema(tmp_path: Path, field: str) -> dict[str, Any]:
    """The schema of a request's only field."""
    text = SERVICE.format(answer="In", rule='post: "/do" body: "*"') + f"message In {{ {field} }}\nmessage Other {{}}\n"
    schema: dict[str, Any] = document(tmp_path, text)["components"]["schemas"]["In"]["properties"]["a"]
    return schema


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("optional double a = 1 [(buf.validate.field).double = {gte: 0, lte: 2}];", {"minimum": 0.0, "maximum": 2.0}),
        ("string a = 1 [(buf.validate.field).string = {min_len: 1, max_len: 9}];", {"minLength": 1, "maxLength": 9}),
        ('string a = 1 [(buf.validate.field).string = {in: ["x", "y"]}];', {"enum": ["x", "y"]}),
        ('string a = 1 [(buf.validate.field).string.pattern = "^[a-z]$"];', {"pattern": "^[a-z]$"}),
        (
            'string a = 1 [(buf.validate.field).string.pattern = "^(?i:x)$"];',
            {"description": "Must match the RE2 pattern `^(?i:x)$`."},
        ),
        (
            "repeated string a = 1 [(buf.validate.field).repeated = {max_items: 4, items: {string: {min_len: 1}}}];",
            {"maxItems": 4, "items": {"type": "string", "minLength": 1}},
        ),
        (
            "map<string, int32> a = 1 [(buf.validate.field).map.max_pairs = 3];",
            {"maxProperties": 3, "additionalProperties": {"type": "integer", "format": "int32"}},
        ),
        ("int64 a = 1;", {"type": ["integer", "string"]}),
        ("bytes a = 1;", {"contentEncoding": "base64"}),
        ("Other a = 1;", {"$ref": "#/components/schemas/Other"}),
    ],
)
def test_a_field_shows_its_type_and_limits(tmp_path: Path, field: str, expected: dict[str, Any]) -> None:
    """Each rule that the contract uses has its keyword."""
    assert expected.items() <= field_schema(tmp_path, field).items()


@pytest.mark.parametrize(
    ("field", "required"),
    [
        ("string a = 1;", False),
        ("string a = 1 [(buf.validate.field).string.min_len = 1];", True),
        ("optional string a = 1 [(buf.validate.field).string.min_len = 1];", False),
        ('string a = 1 [(buf.validate.field).string = {in: ["", "x"]}];', False),
        ("repeated string a = 1 [(buf.validate.field).repeated.min_items = 1];", True),
        ("string a = 1 [(buf.validate.field) = {ignore: IGNORE_IF_ZERO_VALUE, string: {min_len: 2}}];", False),
        ("Other a = 1 [(buf.validate.field).required = true];", True),
    ],
)
def test_a_field_is_required_where_a_request_without_it_is_refused(tmp_path: Path, field: str, required: bool) -> None:
    """Presence and limits together decide, as they do in the validator."""
    text = SERVICE.format(answer="In", rule='post: "/do" body: "*"') + f"message In {{ {field} }}\nmessage Other {{}}\n"
    assert ("required" in document(tmp_path, text)["components"]["schemas"]["In"]) is required


@pytest.mark.parametrize(
    "text",
    [
        SERVICE.format(answer="In", rule='post: "/do" body: "*"')
        + 'message In { string a = 1 [(buf.validate.field).string.prefix = "x"]; }',
        SERVICE.format(answer="In", rule='post: "/do" body: "a"') + "message In { string a = 1; }",
        SERVICE.format(answer="In", rule='get: "/do"') + "message In { Other a = 1; }\nmessage Other {}",
    ],
    ids=["a limit without keyword", "a body that is one field", "a message as query parameter"],
)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, text: str) -> None:
    """A document that leaves something out would be wrong without saying so."""
    with pytest.raises(openapi.UnsupportedContractError):
        document(tmp_path, text)


def test_another_form_of_an_answer_stands_on_the_path_that_callers_use(tmp_path: Path) -> None:
    """`P:stream` is shown as the event stream of `P`, not as a path."""
    rpcs = (
        'rpc Do(In) returns (In) { option (google.api.http) = {post: "/do" body: "*"}; }\n'
        'rpc Run(In) returns (stream In) { option (google.api.http) = {post: "/do:stream" body: "*"}; }'
    )
    paths = document(tmp_path, f"service S {{ {rpcs} }}\nmessage In {{}}\n")["paths"]
    assert list(paths) == ["/do"]
    assert set(paths["/do"]["post"]["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}


def test_a_dialects_body_and_answer_are_free(tmp_path: Path) -> None:
    """HttpBody is JSON of any kind, or events; what a header of a dialect asks for stands on the path as well."""
    rpcs = (
        "rpc Do(google.api.HttpBody) returns (stream google.api.HttpBody)"
        ' { option (google.api.http) = {post: "/do" body: "*"}; }\n'
        'rpc List(In) returns (google.api.HttpBody) { option (google.api.http) = {get: "/models"}; }\n'
        "// Theirs.\n"
        'rpc Lists(More) returns (google.api.HttpBody) { option (google.api.http) = {get: "/models:anthropic"}; }'
    )
    text = f"service S {{ {rpcs} }}\nmessage In {{}}\nmessage More {{ int32 limit = 1; }}\n"
    paths = document(tmp_path, text)["paths"]
    assert list(paths) == ["/do", "/models"]
    operation = paths["/do"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["additionalProperties"] is True
    assert operation["responses"]["200"]["content"] == {
        "application/json": {"schema": {}},
        "text/event-stream": {"schema": {}},
    }
    listed = paths["/models"]["get"]
    assert [parameter["name"] for parameter in listed["parameters"]] == ["limit"]
    assert "anthropic-version" in listed["description"]


def test_a_variable_that_spans_slashes_is_an_ordinary_path_parameter(tmp_path: Path) -> None:
    """OpenAPI has no `{id=**}`; the description says what it means."""
    found = document(tmp_path, SERVICE.format(answer="In", rule='get: "/m/{id=**}"') + "message In { string id = 1; }")
    (parameter,) = found["paths"]["/m/{id}"]["get"]["parameters"]
    assert (parameter["in"], parameter["name"], parameter["required"]) == ("path", "id", True)
    assert "slashes" in parameter["description"]


def test_every_reference_in_the_committed_document_leads_somewhere() -> None:
    """No schema is named that is not there."""
    content = yaml.safe_load((ROOT / "gen" / "openapi" / "dragoman.yaml").read_text())

    def references(node: Any) -> list[str]:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = [node["$ref"]] if isinstance(node, dict) and isinstance(node.get("$ref"), str) else []
        return own + [found for child in children for found in references(child)]

    found = set(references(content))
    assert found
    for reference in found:
        target = content
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
