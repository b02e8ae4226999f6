"""The environment's set-up hands pip's settings on to uv and takes packages only as the lock pins them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import venv

ROOT = Path(venv.__file__).resolve().parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))


def test_a_variable_wins_over_an_install_section_and_that_over_global() -> None:
    """pip's own order of precedence, whatever the order of the lines."""
    listing = ":env:.index-url='https://c/'\nglobal.index-url='https://a/'\ninstall.index-url='https://b/'\n"
    assert venv.pip_settings(listing) == {"index-url": "https://c/"}


@pytest.mark.parametrize("line", ["", "WARNING: something", "global.index-url=not a literal", "user.index-url='x'"])
def test_lines_that_are_no_setting_are_passed_over(line: str) -> None:
    """What pip prints beside its settings does no harm."""
    assert venv.pip_settings(line) == {}


def test_pip_settings_reach_uv_under_its_own_names() -> None:
    """Every place that pip would look in is one that uv looks in."""
    settings = {
        "index-url": "https://i/",
        "extra-index-url": "\nhttps://x/\nhttps://y/",
        "find-links": "/a /b",
        "cert": "/c",
    }
    environ = venv.uv_environment(settings, {})
    assert environ["UV_DEFAULT_INDEX"] == "https://i/"
    assert environ["UV_INDEX"] == "https://x/ https://y/"
    assert environ["UV_FIND_LINKS"] == "/a,/b"
    assert environ["SSL_CERT_FILE"] == "/c"


def test_a_setting_made_for_uv_wins_over_pips() -> None:
    """Who configured uv meant it."""
    environ = venv.uv_environment({"index-url": "https://pip/"}, {"UV_DEFAULT_INDEX": "https://uv/"})
    assert environ["UV_DEFAULT_INDEX"] == "https://uv/"


def test_uv_is_taken_from_the_lock_with_all_its_hashes_and_nothing_else() -> None:
    """The bootstrap is as pinned as the rest."""
    entry = venv.pinned((ROOT / "requirements" / "dev.lock").read_text(), "uv")
    assert re.match(r"uv==[\d.]+ \\\n", entry)
    assert entry.count("--hash=sha256:") > 1
    assert entry.count("==") == 1
    assert not entry.rstrip().endswith("\\")


def test_a_lock_without_uv_says_what_to_run() -> None:
    """A broken lock is one clear line."""
    with pytest.raises(venv.SetupError, match="make lock"):
        venv.pinned("ruff==1.0 \\\n    --hash=sha256:00\n", "uv")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_locks_pin_every_package_by_hash_and_name_no_index(lock: Path) -> None:
    """Any index serves the same files, or none."""
    text = lock.read_text()
    entries = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==.*(?:\n[ \t]+--hash=.*)+", text, flags=re.MULTILINE)
    assert entries
    assert len(entries) == len(re.findall(r"^[a-z0-9]", text, flags=re.MULTILINE))
    assert "://" not in text


def test_the_image_runs_the_versions_that_were_tested() -> None:
    """server.lock and build.lock are parts of dev.lock, version for version."""

    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;]+)", text, flags=re.MULTILINE))

    everything = pins("dev.lock")
    for part in ("server.lock", "build.lock"):
        assert pins(part).items() <= everything.items()
