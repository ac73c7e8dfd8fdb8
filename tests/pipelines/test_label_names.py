"""Names of classes: any index has one, and listing them ends."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from gpux.pipelines.vision.boxes import LabelNames
from tests.pipelines.conftest import stored


def test_names_are_listed_in_order_and_an_index_without_a_name_has_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"id2label": {"1": "dog", "0": "cat", "10": "bird"}}')
    names = LabelNames(stored(tmp_path, "object-detection"))
    assert list(islice(names, 5)) == ["cat", "dog", "bird"]
    assert (names[1], names[7]) == ("dog", "LABEL_7")
