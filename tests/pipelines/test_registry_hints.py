"""The hint for a task without a pipeline names what helps."""

from __future__ import annotations

import re

import pytest

from gpux import errors, pipeline
from gpux.pipelines.registry import pipeline_class


@pytest.mark.parametrize(
    ("task", "hint"),
    [
        ("text-generatoin", "Did you mean 'text-generation'?"),
        ("feature_extracton", "Did you mean 'feature-extraction'?"),
        ("sentiment", "Did you mean 'sentiment-analysis'?"),
        ("fill", "Did you mean 'fill-mask'?"),
        ("foo", "Name one of these tasks, for example '"),
        ("text-to-video", "`gpux pull --task text-to-video`"),
    ],
)
def test_a_task_without_a_pipeline(task: str, hint: str) -> None:
    with pytest.raises(errors.UnsupportedTaskError, match="no pipeline for the task") as caught:
        pipeline(task, "org/name")

    assert hint in (caught.value.hint or "")
    named = re.search(r"'([a-z0-9-]+)'", caught.value.hint or "")
    if named:
        assert pipeline_class(named[1])


@pytest.mark.parametrize("module", ["PIL", "soundfile", "soxr"])
def test_a_missing_package_names_the_extra_that_installs_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def load(self) -> None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("gpux.pipelines.registry.pipelines", lambda: {"image-classification": Missing()})
    with pytest.raises(errors.UnsupportedError, match=module) as caught:
        pipeline_class("image-classification")
    assert "pip install 'gpux[" in str(caught.value.hint)
