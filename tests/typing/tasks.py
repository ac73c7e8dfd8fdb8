"""The types of :func:`gpux.pipeline` by task; checked by mypy in test_typing.py, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import numpy as np
from numpy.typing import NDArray

import gpux
from gpux import Generation, ModelRef, Pipeline, Settings, StoredModel, TextStreamer, pipeline

if TYPE_CHECKING:
    from gpux.pipelines.audio.audio_classification import AudioClassificationPipeline
    from gpux.pipelines.audio.audio_feature_extraction import AudioFeatureExtractionPipeline
    from gpux.pipelines.audio.audio_frame_classification import AudioFrameClassificationPipeline
    from gpux.pipelines.audio.audio_xvector import AudioXVectorPipeline
    from gpux.pipelines.audio.speech_recognition import AutomaticSpeechRecognitionPipeline
    from gpux.pipelines.audio.zero_shot_audio_classification import ZeroShotAudioClassificationPipeline
    from gpux.pipelines.generation.text2text_generation import (
        SummarizationPipeline,
        Text2TextGenerationPipeline,
        TranslationPipeline,
    )
    from gpux.pipelines.generation.text_generation import TextGenerationPipeline
    from gpux.pipelines.text.feature_extraction import FeatureExtractionPipeline
    from gpux.pipelines.text.fill_mask import FillMaskPipeline
    from gpux.pipelines.text.late_interaction import LateInteractionPipeline
    from gpux.pipelines.text.question_answering import QuestionAnsweringPipeline
    from gpux.pipelines.text.sentence_similarity import SentenceSimilarityPipeline
    from gpux.pipelines.text.sparse_embedding import SparseEmbeddingPipeline
    from gpux.pipelines.text.text_classification import TextClassificationPipeline
    from gpux.pipelines.text.text_ranking import TextRankingPipeline
    from gpux.pipelines.text.token_classification import TokenClassificationPipeline
    from gpux.pipelines.text.zero_shot_classification import ZeroShotClassificationPipeline
    from gpux.pipelines.vision.image_classification import ImageClassificationPipeline
    from gpux.pipelines.vision.image_feature_extraction import ImageFeatureExtractionPipeline
    from gpux.pipelines.vision.image_to_image import ImageToImagePipeline
    from gpux.pipelines.vision.image_to_text import ImageToTextPipeline
    from gpux.pipelines.vision.video_classification import VideoClassificationPipeline
    from gpux.pipelines.vision.zero_shot_image_classification import ZeroShotImageClassificationPipeline


def every_literal(model: StoredModel) -> None:
    assert_type(pipeline("feature-extraction", model), FeatureExtractionPipeline)
    assert_type(pipeline("embedding", model), FeatureExtractionPipeline)
    assert_type(pipeline("embeddings", model), FeatureExtractionPipeline)
    assert_type(pipeline("sentence-embedding", model), FeatureExtractionPipeline)
    assert_type(pipeline("sentence-embeddings", model), FeatureExtractionPipeline)
    assert_type(pipeline("fill-mask", model), FillMaskPipeline)
    assert_type(pipeline("masked-lm", model), FillMaskPipeline)
    assert_type(pipeline("text-classification", model), TextClassificationPipeline)
    assert_type(pipeline("sentiment-analysis", model), TextClassificationPipeline)
    assert_type(pipeline("sequence-classification", model), TextClassificationPipeline)
    assert_type(pipeline("token-classification", model), TokenClassificationPipeline)
    assert_type(pipeline("ner", model), TokenClassificationPipeline)
    assert_type(pipeline("named-entity-recognition", model), TokenClassificationPipeline)
    assert_type(pipeline("question-answering", model), QuestionAnsweringPipeline)
    assert_type(pipeline("zero-shot-classification", model), ZeroShotClassificationPipeline)
    assert_type(pipeline("automatic-speech-recognition", model), AutomaticSpeechRecognitionPipeline)
    assert_type(pipeline("asr", model), AutomaticSpeechRecognitionPipeline)
    assert_type(pipeline("speech-to-text", model), AutomaticSpeechRecognitionPipeline)
    assert_type(pipeline("speech-recognition", model), AutomaticSpeechRecognitionPipeline)
    assert_type(pipeline("audio-classification", model), AudioClassificationPipeline)
    assert_type(pipeline("audio-feature-extraction", model), AudioFeatureExtractionPipeline)
    assert_type(pipeline("audio-frame-classification", model), AudioFrameClassificationPipeline)
    assert_type(pipeline("audio-xvector", model), AudioXVectorPipeline)
    assert_type(pipeline("zero-shot-audio-classification", model), ZeroShotAudioClassificationPipeline)
    assert_type(pipeline("image-classification", model), ImageClassificationPipeline)
    assert_type(pipeline("sentence-similarity", model), SentenceSimilarityPipeline)
    assert_type(pipeline("sparse-embedding", model), SparseEmbeddingPipeline)
    assert_type(pipeline("text-ranking", model), TextRankingPipeline)
    assert_type(pipeline("image-feature-extraction", model), ImageFeatureExtractionPipeline)
    assert_type(pipeline("image-to-image", model), ImageToImagePipeline)
    assert_type(pipeline("image-to-text", model), ImageToTextPipeline)
    assert_type(pipeline("image-captioning", model), ImageToTextPipeline)
    assert_type(pipeline("vision2seq", model), ImageToTextPipeline)
    assert_type(pipeline("video-classification", model), VideoClassificationPipeline)
    assert_type(pipeline("zero-shot-image-classification", model), ZeroShotImageClassificationPipeline)
    assert_type(pipeline("late-interaction", model), LateInteractionPipeline)
    assert_type(pipeline("text-generation", model), TextGenerationPipeline)
    assert_type(pipeline("causal-lm", model), TextGenerationPipeline)
    assert_type(pipeline("conversational", model), TextGenerationPipeline)
    assert_type(pipeline("text2text-generation", model), Text2TextGenerationPipeline)
    assert_type(pipeline("text2text", model), Text2TextGenerationPipeline)
    assert_type(pipeline("seq2seq-lm", model), Text2TextGenerationPipeline)
    assert_type(pipeline("summarization", model), SummarizationPipeline)
    assert_type(pipeline("translation", model), TranslationPipeline)


def models(task: str | None) -> None:
    assert_type(pipeline(task, model="org/name"), Pipeline)
    assert_type(pipeline(model=Path("folder")), Pipeline)
    assert_type(pipeline("fill-mask", model=ModelRef.parse("org/name"), revision="main"), FillMaskPipeline)
    assert_type(pipeline("fill-mask", model="org/name:int8", revision="main", precision="int8"), FillMaskPipeline)
    assert_type(pipeline(task, model="org/name", precision="auto"), Pipeline)
    assert_type(pipeline(model="org/name", precision=None), Pipeline)
    pipeline("fill-mask", model="org/name", precision=8)  # type: ignore[call-overload]
    pipeline("fill-mask")  # type: ignore[call-overload] # no model


def opening() -> None:
    settings = Settings.from_env()
    pipe = pipeline(
        "fill-mask",
        "org/name",
        device="cpu",
        revision="main",
        threads=2,
        spinning=False,
        allow_cpu_nodes=True,
        settings=settings,
        top_k=3,
        targets=["a", "b"],
    )
    assert_type(pipe.device, str)
    assert_type(pipe.memory_bytes, int)
    with pipe as same:
        assert_type(same, FillMaskPipeline)
    assert_type(pipeline(model="org/name", device=0, threads=1), Pipeline)
    assert_type([option.name for option in pipe.options()], list[str])
    pipe("text", top_kk=3)  # type: ignore[call-arg]
    pipe("text", top_k="3")  # type: ignore[arg-type]
    pipe(5)  # type: ignore[arg-type]


def vectors() -> None:
    embed = pipeline("feature-extraction", "org/name", return_arrays=True)
    assert_type(embed.encode("a", normalize=True, truncate_dim=8), NDArray[np.float32])
    assert_type(embed.dimension, int)
    assert_type(embed.max_seq_length, int | None)
    assert_type(embed.encode_query("a", precision="ubinary"), NDArray[Any])
    assert_type(embed.similarity(embed.encode(["a"]), embed.encode(["b", "c"])), NDArray[np.float32])
    embed.encode("a", speed=11)  # type: ignore[call-overload]
    compare = pipeline("sentence-similarity", "org/name", truncate_dim=8, similarity="dot")
    compare({"source_sentence": "a", "sentences": ["b"]}, prompt_name="query")
    compare.encode("a", normalize=True)


def ranked() -> None:
    ranking = pipeline("text-ranking", "org/name", top_k=3)
    assert_type(ranking.rank("a", ["b", "c"], return_documents=True), list[dict[str, Any]])
    ranking.predict([("a", "b")], activation_fn="tanh")
    ranking.predict([("a", "b")], activation_fn="cosine")  # type: ignore[arg-type]


def labels() -> None:
    classify = pipeline("sentiment-analysis", "org/name", top_k=None, function_to_apply="sigmoid")
    assert_type(classify.labels, list[str])
    classify({"text": "a", "text_pair": "b"}, top_k=2)
    classify("a", function_to_apply="tanh")  # type: ignore[arg-type]


def found() -> None:
    find = pipeline("ner", "org/name", aggregation_strategy="simple", stride=16)
    find(["a", "b"], ignore_labels=["O"])
    find("a", aggregation_strategy="last")  # type: ignore[arg-type]
    answer = pipeline("question-answering", "org/name", top_k=3, context="a")
    answer(question=["a"], context=["b"], handle_impossible_answer=True)
    answer("a", "b", max_answer_length=3)  # type: ignore[call-arg]
    choose = pipeline("zero-shot-classification", "org/name", candidate_labels="a, b")
    choose("a", ["a", "b"], multi_label=True)
    choose(["a"], hypothesis="{}")  # type: ignore[call-arg]


def located() -> None:
    detect = pipeline("object-detection", "org/name", threshold=0.3)
    detect("a.png", threshold=0.5)
    detect("a.png", thresholds=0.5)  # type: ignore[call-arg]
    segment = pipeline("semantic-segmentation", "org/name", mask_threshold=0.3)
    segment(["a.png"], subtask="panoptic")
    segment("a.png", subtask="both")  # type: ignore[arg-type]
    named = pipeline("zero-shot-object-detection", "org/name", candidate_labels="a, b")
    named("a.png", ["a"], top_k=3)
    named({"image": "a.png", "candidate_labels": ["a"]})
    pose = pipeline("keypoint-detection", "org/name", threshold=0.3)
    pose("a.png", boxes=[{"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}, (1.0, 2.0, 3.0, 4.0)])
    cut = pipeline("mask-generation", "org/name", points_per_crop=8)
    cut("a.png", input_points=[[1, 2]], input_labels=[1])
    watch = pipeline("video-classification", "org/name", num_frames=8)
    watch(["frame0.png", b"bytes"], frame_sampling_rate=2)
    measure = pipeline("depth-estimation", "org/name")
    measure(b"bytes", batch_size=2)


async def written() -> None:
    write = pipeline("text-generation", "org/name", temperature=0.5)
    messages = [{"role": "user", "content": "Hello"}]
    assert_type(write.generate(["a"], max_new_tokens=3, logprobs=2), list[tuple[Generation, ...]])
    assert_type(write.stream(messages, tools=[], stop="."), TextStreamer)
    assert_type(write.stream("a").result, Generation)
    assert_type(write.prompt_text(messages, chat_template="rag"), str)
    async for piece in write.astream("a", seed=1):
        assert_type(piece, str)
    write("a", max_new_token=3)  # type: ignore[call-arg]
    translate = pipeline("translation", "org/name", tgt_lang="de")
    assert_type(translate.generate(["a"], src_lang="en"), list[tuple[Generation, ...]])
    summarize = pipeline("summarization", "org/name", num_beams=4)
    summarize("a", truncation=True, tgt_lang="de")  # type: ignore[call-arg]


def public_errors(error: gpux.GpuxError) -> None:
    assert_type(error.code, str)
    assert_type(error.hint, str | None)
    assert_type(error.to_dict(), dict[str, Any])
