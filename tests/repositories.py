"""The repositories that the loopback Hub serves to tests, written once per test run."""

from __future__ import annotations

from pathlib import Path

from tests.hub import User, add_repo, folder_files
from tests.models.bert import bert_repository
from tests.models.minilm import minilm_repository

MINILM = "sentence-transformers/all-MiniLM-L6-v2"  #: safetensors only
MINILM_ONNX = "sentence-transformers/all-MiniLM-L6-v2-onnx"  #: with an onnx/ folder, as the real repository has

USERS = {
    "hf_good": User("ada", orgs=("acme",)),
    "hf_other": User("bob"),
}


def write_repositories(root: Path, scratch: Path) -> None:
    """Write tiny models of every supported kind, and unusual repositories."""
    tiny = folder_files(bert_repository(scratch / "embed", "feature-extraction", onnx=True, sentence_transformers={}))
    add_repo(root, "tiny/embed", tiny, pipeline_tag="sentence-similarity", git_tags={"v1": "main"}, downloads=300)
    classify = folder_files(bert_repository(scratch / "classify", "text-classification", onnx=True))
    add_repo(root, "tiny/classify", classify, downloads=200)
    fill = folder_files(bert_repository(scratch / "fill", "fill-mask", onnx=True))
    add_repo(root, "tiny/fill", fill, downloads=100)
    weights = folder_files(bert_repository(scratch / "weights", "text-classification"))
    add_repo(root, "tiny/weights", weights)
    add_repo(root, "tiny/moved", classify, label="main")
    add_repo(root, "tiny/moved", fill, label="next")
    add_repo(root, "acme/private", classify, private=True)
    add_repo(root, "acme/gated", classify, gated="manual")
    add_repo(root, "acme/disabled", classify, disabled=True)
    add_repo(root, "openai-community/gpt2", tiny, renamed_from=("gpt2", "old/gpt2"))
    add_repo(root, "odd/no-weights", {"README.md": b"# nothing\n", "config.json": b'{"model_type": "bert"}'})
    add_repo(
        root, "odd/gguf", {"README.md": b"# gguf\n", "model-q4.gguf": b"GGUF" + bytes(100), "model-q8.gguf": b"GGUF"}
    )
    add_repo(root, "odd/unknown", _unknown_architecture(weights))
    card = b"---\nsdk: gradio\nmodels:\n- tiny/embed\n- tiny/classify\n---\n# Demo\n"
    add_repo(root, "acme/demo", {"README.md": card, "app.py": b"pass\n"}, kind="spaces")
    add_repo(root, "acme/bare", {"README.md": b"# Bare\n"}, kind="spaces")
    add_repo(root, "acme/secret", {"README.md": card}, kind="spaces", private=True)
    add_repo(root, "odd/empty", {})
    add_repo(root, "odd/traversal", classify, phantom_files=("../outside.txt",))


def write_minilm(root: Path, scratch: Path) -> None:
    """Write two repositories of the real all-MiniLM-L6-v2, without and with ONNX."""
    for repo, onnx in ((MINILM, False), (MINILM_ONNX, True)):
        folder = minilm_repository(scratch / repo.replace("/", "--"), onnx=onnx, cache=scratch / "onnx")
        add_repo(root, repo, folder_files(folder))


def _unknown_architecture(files: dict[str, bytes | Path]) -> dict[str, bytes | Path]:
    config = b'{"model_type": "quantum-bert", "architectures": ["QuantumBertForSequenceClassification"]}'
    return {**files, "config.json": config}
