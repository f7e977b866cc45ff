"""The benchmark of promotion runs in a tiny form, whose figures mean nothing."""

from pathlib import Path

import orjson
import pytest

from benchmarks.refinement import promotion


@pytest.mark.slow
def test_the_benchmark_measures_a_promotion_and_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion, "CALM_S", 0.3)
    promotion.main(rate=20.0, rounds=1, poll_s=0.1, out=tmp_path)
    record = orjson.loads((tmp_path / "promotion.json").read_bytes())
    assert record["failed"] == 0
    assert {name: len(changes) for name, changes in record["changes"].items()} == {"promotion": 1, "rollback": 1}
    assert "| rollback | 1 | " in (tmp_path / "promotion.md").read_text()
