"""The preview: every message that a site would send, byte for byte, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from federation.test_leading import hospitals, root
from sammit.errors import UserError
from sammit.federation.by_file import ByFile
from sammit.federation.hospital import Hospital
from sammit.federation.leading import lead
from sammit.federation.messages import decode
from sammit.federation.preview import preview

__all__ = ["root"]


class Heard:
    """A site whose replies are kept as bytes."""

    def __init__(self, site: Hospital) -> None:
        self.site, self.sent = site, list[bytes]()

    def answer(self, order: Path, reply: Path) -> None:
        self.site.answer(order, reply)
        self.sent.append(reply.read_bytes())


@pytest.mark.parametrize("method", ["pfedsam", "scaffold"])
def test_the_first_round_leaves_as_it_was_shown(root: Path, tmp_path: Path, method: str) -> None:
    """Invitations and the first update are the bytes of the preview, though another site takes part in the run."""
    sites = hospitals(root, tmp_path / "sites")
    what = tiny.experiment(Path("nowhere"), method)
    rows = preview(what, "aster", sites["aster"].premises, tmp_path / "shown")
    heard = {name: Heard(site) for name, site in sites.items()}
    lead(tmp_path / "out", what, tuple(sites), ByFile(heard, tmp_path / "mail"), lambda row: None)
    for row, sent in zip(rows[:3], heard["aster"].sent, strict=False):
        assert (tmp_path / "shown" / row["file"]).read_bytes() == sent and row["bytes"] == len(sent)
    assert [row["is"] for row in rows] == ["Survey", "Ready", "Update", "Judgement", "Done", "Done", "Judgement"]
    assert json.loads(json.dumps(rows)) == json.loads((tmp_path / "shown" / "egress.json").read_text())
    update = decode((tmp_path / "shown" / rows[2]["file"]).read_bytes())
    assert set(rows[2]["tensors"]) == {*update.tensors, *update.extras}
    assert not any(".mixture." in name for name in rows[2]["tensors"])


def test_nothing_of_it_stays_in_the_site(root: Path, tmp_path: Path) -> None:
    sites = hospitals(root, tmp_path / "sites")
    preview(tiny.experiment(Path("nowhere")), "aster", sites["aster"].premises, tmp_path / "shown")
    assert {path.name for path in Path(sites["aster"].premises.home).iterdir()} <= {"cache", "audit.jsonl"}
    with pytest.raises(UserError, match="is not empty; choose another --out"):
        preview(tiny.experiment(Path("nowhere")), "aster", sites["aster"].premises, tmp_path / "shown")


def test_a_site_that_would_not_take_part_hears_why(root: Path, tmp_path: Path) -> None:
    sites = hospitals(root, tmp_path / "sites")
    (Path(sites["aster"].premises.data) / "site.toml").write_text('refuse = ["loss"]\n')
    with pytest.raises(UserError, match="refuses 'loss'"):
        preview(tiny.experiment(Path("nowhere")), "aster", sites["aster"].premises, tmp_path / "shown")
