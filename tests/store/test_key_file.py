"""The master key file is changed whole or not at all, and by one command at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.core.setup import SetupError
from server.store.cipher import Key
from server.store.key_file import editing
from server.store.master_key import create_master_key_file, read_keyring


@pytest.fixture
def path(tmp_path: Path) -> Path:
    created = tmp_path / "keys" / "master.key"
    create_master_key_file(created)
    return created


def test_a_new_key_stands_first_and_what_was_there_stays_as_it_was(path: Path) -> None:
    path.write_text("# since March\n" + path.read_text())
    before, old, new = path.read_text(), read_keyring(path).active, Key.generate()
    with editing(path, allow_shared=False) as file:
        ring = file.put_first(new)
    assert (ring.active.id, ring.ids()) == (new.id, frozenset({new.id, old.id}))
    assert path.read_text().endswith("\n" + before)
    with editing(path, allow_shared=False) as file:
        assert file.keep_first().ids() == {new.id} == read_keyring(path).ids()
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == [".master.key.lock", "master.key"]


def test_two_commands_at_once_are_refused(path: Path) -> None:
    with editing(path, allow_shared=False), pytest.raises(SetupError, match="Another command"):
        editing(path, allow_shared=False).__enter__()
    with editing(path, allow_shared=False):
        pass


def test_a_write_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with editing(path, allow_shared=False) as file:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SetupError, match="No space left"):
            file.put_first(Key.generate())
    assert path.read_bytes() == before


def test_what_a_link_points_to_is_replaced_and_the_link_stays(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with editing(link, allow_shared=False) as file:
        ring = file.put_first(Key.generate())
    assert link.is_symlink()
    assert read_keyring(path).ids() == ring.ids()


def test_a_file_that_is_no_keyring_is_not_added_to(path: Path) -> None:
    path.write_text("canary")
    with editing(path, allow_shared=False) as file, pytest.raises(SetupError, match="is not a key"):
        file.put_first(Key.generate())
    assert path.read_text() == "canary"
