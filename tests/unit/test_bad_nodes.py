"""The list of nodes whose GPU did not work."""

from pathlib import Path

import pytest

from opproof import artifact, bad_nodes


@pytest.mark.parametrize("name", ["n1", "gpu-07.example.org", "_x", "0"])
def test_what_slurm_calls_this_node(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", name)
    assert bad_nodes.this_node() == name


NO_NAMES = ["", "-n", ".n", "n;id", "n,m", "n m", "n/../m", "$(id)", "n\n", "nö", "n[1-2]"]


@pytest.mark.parametrize("name", [None, *NO_NAMES])
def test_what_is_no_name_is_none(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    if name is not None:
        monkeypatch.setenv("SLURMD_NODENAME", name)
    assert bad_nodes.this_node() is None


def test_listed_nodes_are_excluded_until_the_list_is_cleared(tmp_path: Path) -> None:
    assert bad_nodes.exclusion(tmp_path) is None
    for name in ("n2", "n1", "n2"):
        bad_nodes.add(tmp_path, name, f"host of {name}", "why")
    assert bad_nodes.exclusion(tmp_path) == "--exclude=n1,n2"
    record = artifact.read_json(tmp_path / "state/bad-nodes/n1")
    assert record.pop("when").endswith("+00:00")
    assert record == {"host": "host of n1", "why": "why"}
    bad_nodes.clear(tmp_path)
    assert bad_nodes.exclusion(tmp_path) is None
    bad_nodes.clear(tmp_path)


def test_what_the_user_excludes_stays_excluded(tmp_path: Path) -> None:
    assert bad_nodes.exclusion(tmp_path, "n0") is None  # the plugin does it then
    bad_nodes.add(tmp_path, "n1", "host", "why")
    assert bad_nodes.exclusion(tmp_path, "n1, n0 ,,$(id)") == "--exclude=n1,n0"


def test_only_names_reach_a_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "bad-nodes"
    folder.mkdir(parents=True)
    for name in ("n1", *NO_NAMES):
        if name and "/" not in name:
            (folder / name).touch()
    assert bad_nodes.exclusion(tmp_path) == "--exclude=n1"
