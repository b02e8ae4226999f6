"""The base that a contract is compared with, and the drift check of gen/."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import gen, protos


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository on main, in the place of the checkout."""
    monkeypatch.setattr(protos, "ROOT", tmp_path)
    subprocess.run(["git", "init", "-q", "-b", "main", tmp_path], check=True)
    return tmp_path


def commit(repository: Path, path: str, message: str = "change") -> str:
    """Commit a change of one file; the commit's id."""
    file = repository / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{file.read_text() if file.exists() else ''}.")
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "-C", repository, "add", "-A"], check=True)
    subprocess.run(["git", "-C", repository, *identity, "commit", "-qm", message], check=True)
    return protos.git("rev-parse", "HEAD")


def test_a_branch_is_compared_with_main(repository: Path) -> None:
    """Whatever the branch's own history is."""
    main = commit(repository, "protos/a.proto")
    subprocess.run(["git", "-C", repository, "checkout", "-q", "-b", "other"], check=True)
    commit(repository, "protos/a.proto")
    commit(repository, "readme")
    assert protos.bases() == [main]


def test_main_is_compared_with_the_contract_before_the_newest_change(repository: Path) -> None:
    """Later commits that leave the contract alone do not hide a change."""
    before = commit(repository, "protos/a.proto")
    commit(repository, "protos/a.proto")
    head = commit(repository, "readme")
    assert protos.bases() == [before, head]


def test_a_break_with_its_reason_is_let_pass(repository: Path) -> None:
    """Only the comparison with the contract before it is left out."""
    commit(repository, "protos/a.proto")
    head = commit(repository, "protos/a.proto", "change\n\nContract-break: nobody uses it yet")
    assert protos.bases() == [head]


def test_the_first_contract_has_nothing_to_break(repository: Path) -> None:
    """The commit that brings it has no contract before it."""
    commit(repository, "readme")
    commit(repository, "protos/a.proto")
    assert [ref for ref in protos.bases() if protos.has_contract(ref)] == []


def test_without_node_the_check_is_skipped_with_its_reason_but_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A skip that nobody asked for must not look like a pass where it counts."""
    monkeypatch.setattr(protos, "BUF", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["protos"])
    monkeypatch.delenv("CI", raising=False)
    assert protos.main() == 0
    assert "skipped: buf lint, format and breaking: Node.js" in capsys.readouterr().out
    monkeypatch.setenv("CI", "true")
    assert protos.main() == 1
    assert "error: Node.js" in capsys.readouterr().err


def test_drift_names_each_file_that_is_stale_missing_or_left_over(tmp_path: Path) -> None:
    """All three are found, equal files and Python's caches are not."""
    fresh, committed = tmp_path / "fresh", tmp_path / "gen"
    for root, files in (
        (fresh, {"same": "1", "stale": "2", "new": "3"}),
        (committed, {"same": "1", "stale": "1", "old": "4"}),
    ):
        root.mkdir()
        for name, content in files.items():
            (root / name).write_text(content)
    (committed / "__pycache__").mkdir()
    (committed / "__pycache__" / "x.pyc").write_text("")
    assert list(gen.drift(fresh, committed)) == ["gen/new is missing", "gen/old is left over", "gen/stale is stale"]
    gen.replace(fresh, committed)
    assert list(gen.drift(fresh, committed)) == []
