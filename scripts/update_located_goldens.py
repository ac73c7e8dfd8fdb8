"""Write the answers of transformers' pipelines to tests/pipelines/located/cases.py, in that folder.

Run from the repository's root with the interpreter of the toolchain ``optimum``:
``python scripts/update_located_goldens.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import ModelOutput

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.pipelines.located.cases import NAMES, SIZE, Case, questions  # noqa: E402

from gpux.convert.answer_case import CALL, AnswerCase, AnswerSet, write_answers  # noqa: E402
from gpux.convert.worker.reference.answers_library import jsonable  # noqa: E402

FOLDER = ROOT / "tests" / "pipelines" / "located"
PIPELINES = {
    "object-detection": transformers.ObjectDetectionPipeline,
    "image-segmentation": transformers.ImageSegmentationPipeline,
    "depth-estimation": transformers.DepthEstimationPipeline,
}


def answer(case: Case, options: dict[str, Any]) -> Any:
    """What the pipeline reads from the outputs, without a model."""
    if case.task == "keypoint-detection":
        return points(case, options)
    pipe = PIPELINES[case.task].__new__(PIPELINES[case.task])
    pipe.image_processor = getattr(transformers, case.processor)(**(case.settings or {}))
    pipe.tokenizer, pipe.framework = None, "pt"
    pipe.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(NAMES))))
    outputs = ModelOutput({name: torch.from_numpy(value) for name, value in case.outputs().items()})
    size: Any = torch.IntTensor([SIZE]) if case.task == "object-detection" else [SIZE]
    outputs["target_size"] = SIZE if case.task == "depth-estimation" else size
    found = pipe.postprocess(outputs, **options)
    if case.task == "depth-estimation":
        return {"predicted_depth": found["predicted_depth"].numpy(), "depth": np.asarray(found["depth"])}
    return [{**one, "mask": one["mask"] > 0} if "mask" in one else one for one in jsonable(found)]


def points(case: Case, options: dict[str, Any]) -> Any:
    """What the image processor reads from heatmaps; transformers has no pipeline for them."""
    processor = getattr(transformers, case.processor)(**(case.settings or {}))
    boxes = options.get("boxes") or [[0.0, 0.0, float(SIZE[1]), float(SIZE[0])]]
    outputs = SimpleNamespace(heatmaps=torch.from_numpy(case.outputs()["heatmaps"]))
    choice = {name: value for name, value in options.items() if name != "boxes"}
    ((found,),) = processor.post_process_pose_estimation(outputs, boxes=[boxes], **choice)
    left, top, width, height = boxes[0]
    keypoints = zip(found["labels"].tolist(), found["scores"].tolist(), found["keypoints"].tolist(), strict=True)
    return [
        {
            "box": {"xmin": left, "ymin": top, "xmax": left + width, "ymax": top + height},
            "keypoints": [{"label": NAMES[at], "score": score, "x": x, "y": y} for at, score, (x, y) in keypoints],
        }
    ]


def main() -> None:
    """Write the folder."""
    cases = tuple(
        AnswerCase(name, CALL, None, answer(case, dict(options)), dict(options)) for name, case, options in questions()
    )
    write_answers(AnswerSet(cases, {"transformers": transformers.__version__}), FOLDER)
    for case in cases:
        print(case.name, len(case.expected))


if __name__ == "__main__":
    main()
