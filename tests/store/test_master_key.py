"""The master key is read from where the operator put it, and refused where it is unsafe or no key."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from server.core.secret import Secret
from server.core.setup import SetupError
from server.store.cipher import Key
from server.store.master_key import create_master_key_file, parse_keyring, read_keyring

MATERIAL = bytes(range(200, 232))
OTHER = bytes(range(32))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(MATERIAL).decode(),
        base64.urlsafe_b64encode(MATERIAL).decode(),
        base64.b64encode(MATERIAL).decode().rstrip("="),
        MATERIAL.hex(),
        MATERIAL.hex().upper(),
        f"  {MATERIAL.hex()}\r\n",
        f"# the production key\n{MATERIAL.hex()} # since March\n\n",
    ],
)
def test_a_key_is_read_in_every_usual_spelling(text: str) -> None:
    ring = parse_keyring(Secret(text))
    assert ring.active.id == Key(MATERIAL).id
    assert ring.ids() == {Key(MATERIAL).id}


@pytest.mark.parametrize("separator", [",", "\n", " , ", ",\n"])
def test_of_several_keys_the_first_is_the_active_one(separator: str) -> None:
    ring = parse_keyring(Secret(MATERIAL.hex() + separator + base64.b64encode(OTHER).decode()))
    assert ring.active.id == Key(MATERIAL).id
    assert ring.ids() == {Key(MATERIAL).id, Key(OTHER).id}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# only a comment", "empty"),
        ("canary-not-a-key", "number 1 is not a key"),
        (MATERIAL.hex() + ",canary-not-a-key", "number 2 is not a key"),
        (MATERIAL.hex()[:-2], "number 1 is not a key"),
        (base64.b64encode(MATERIAL + b"x").decode(), "number 1 is not a key"),
        ("canaryé" + "0" * 57, "number 1 is not a key"),
        ("0" * 64, "number 1 is not random"),
        (b"password".hex() * 4, "number 1 is not random"),
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as caught:
        parse_keyring(Secret(text))
    assert "canary" not in str(caught.value)
    assert MATERIAL.hex()[:8] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o777])
def test_a_file_that_others_may_read_is_refused_unless_accepted(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    path.write_text(MATERIAL.hex())
    path.chmod(mode)
    with pytest.raises(SetupError, match=f"chmod 600 {path}"):
        read_keyring(path)
    assert read_keyring(path, allow_shared=True).active.id == Key(MATERIAL).id


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    path.write_text(MATERIAL.hex())
    path.chmod(mode)
    assert read_keyring(path).active.id == Key(MATERIAL).id


def test_a_file_that_is_missing_or_none_says_what_to_do(tmp_path: Path) -> None:
    binary = tmp_path / "binary.key"
    binary.write_bytes(secrets.token_bytes(31) + b"\xff")
    large = tmp_path / "large.key"
    large.write_bytes(b"#" * 70_000)
    for path in (binary, large):
        path.chmod(0o600)
    for path, says in [
        (tmp_path / "absent.key", "DRAGOMAN_MASTER_KEY_FILE"),
        (tmp_path, "(regular file|Is a directory)"),
        (binary, "no text"),
        (large, "too large"),
    ]:
        with pytest.raises(SetupError, match=says):
            read_keyring(path)


def test_a_new_file_is_private_random_and_readable(tmp_path: Path) -> None:
    one, other = tmp_path / "new" / "master.key", tmp_path / "master.key"
    assert create_master_key_file(one)
    assert create_master_key_file(other)
    assert one.stat().st_mode & 0o777 == 0o600
    assert one.parent.stat().st_mode & 0o777 == 0o700
    assert read_keyring(one).active.id != read_keyring(other).active.id
    assert [path.name for path in one.parent.iterdir()] == ["master.key"]


def test_a_file_that_is_there_is_never_touched(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text("whatever it holds")
    assert not create_master_key_file(path)
    assert path.read_text() == "whatever it holds"
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        create_master_key_file(tmp_path / "file" / "master.key")
