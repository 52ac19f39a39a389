"""`muscan scan` refuses at once what its last step would refuse, and never mixes two scans."""

from __future__ import annotations

from pathlib import Path

import pytest

import muscan
from muscan.cli import main
from muscan.errors import InputError


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--method", "emm", "'em'"),
        ("--voxel", "0", "--voxel: 0.0 mm is not a size"),
        ("--watch", "uranum", "no material or category 'uranum'; did you mean 'uranium'?"),
        ("--watch", "uranium:heavy", "--watch"),
        ("--cargo", "fruitt", "fruitt"),
        ("--container", "30ft", "no such container '30ft'"),
        ("--materials", "none.toml", "none.toml: "),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_simulated(
    option: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scan"
    with pytest.raises(SystemExit) as stopped:
        main(["scan", "--out", str(out), "--minutes", "60000", option, value])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_folder_never_holds_parts_of_two_scans(tmp_path: Path) -> None:
    muscan.scan("blocks", output=tmp_path, minutes=0.05, voxel=200.0)
    assert (tmp_path / "alerts.json").exists()
    with pytest.raises(InputError, match="voxels are more than"):
        muscan.scan("blocks", output=tmp_path, minutes=0.05, voxel=0.5)
    assert {path.name for path in tmp_path.iterdir()} == {"hits.h5", "tracks.h5", "audit.jsonl"}


def test_a_folder_is_no_file_to_describe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "volume.h5").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["info", str(tmp_path)])
    assert stopped.value.code == 2
    assert "is a folder; name one of its files: volume.h5" in capsys.readouterr().err
