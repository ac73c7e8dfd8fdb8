"""The models of the generation benchmark in the format of each contender; kept in a folder for the next run.

Real shapes, random weights, and a tokenizer with as many entries as the model's vocabulary.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from gpux import Settings, pull_model

ROOT = Path(__file__).parent.parent
#: Name -> the shape in ``bench_models``, and the number of positions where it differs.
SOURCES = {"gpt2": ("gpt2", None), "llama-100m": ("llama-100m", None), "llama-100m-8k": ("llama-100m", 8192)}


@dataclass(frozen=True)
class Models:
    """Builds the models of all contenders, each once.

    Args:
        folder: where the models are kept.
        toolchain: interpreter of Optimum's environment.
        genai: interpreter of an environment with onnxruntime-genai; None without such an environment.
        threads: number of threads of each contender.
    """

    folder: Path
    toolchain: Path
    genai: Path | None
    threads: int

    def source(self, name: str) -> Path:
        """The folder of the original weights, as on the Hub."""
        return self._once(self.folder / "sources" / name, lambda folder: self._write_source(name, folder))

    def variant(self, name: str, precision: str) -> Path:
        """The folder of the variant that gpux stores."""
        settings = Settings.from_env(home=self.folder / "home", toolchains=self.toolchain.parents[2])
        source = str(self.source(name))
        return pull_model(source, task="text-generation", precision=precision, settings=settings).path

    def exported(self, name: str) -> Path:
        """The folder that optimum-cli exports."""
        optimum: list[str | Path] = [self.toolchain.with_name("optimum-cli"), "export", "onnx"]
        arguments: list[str | Path] = ["--task", "text-generation-with-past", "--model", self.source(name)]
        return self._once(
            self.folder / "optimum" / name, lambda folder: self._run("optimum", [*optimum, *arguments, folder])
        )

    def built(self, name: str, precision: str) -> Path:
        """The folder that onnxruntime-genai's model builder writes."""
        return self._once(
            self.folder / "genai" / f"{name}-{precision}", lambda folder: self._build(name, precision, folder)
        )

    def _write_source(self, name: str, folder: Path) -> None:
        shape, positions = SOURCES[name]
        scratch = folder.with_name(f"{folder.name}-shape")
        self._run("shape", [self.toolchain, "-m", "scripts.bench_models", scratch, shape])
        shutil.move(scratch / shape, folder)
        scratch.rmdir()
        config = json.loads((folder / "config.json").read_text())
        if positions:
            config["max_position_embeddings"] = positions
            (folder / "config.json").write_text(json.dumps(config))
        write_tokenizer(folder, config["vocab_size"])

    def _build(self, name: str, precision: str, folder: Path) -> None:
        builder = [self.genai or "", "-m", "onnxruntime_genai.models.builder", "-p", precision, "-e", "cpu"]
        cache = folder.with_name("cache")
        self._run("genai", [*builder, "-i", self.source(name), "-o", folder, "-c", cache])
        file = folder / "genai_config.json"
        config = json.loads(file.read_text())
        config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = self.threads
        file.write_text(json.dumps(config))

    def _run(self, what: str, command: list[str | Path]) -> None:
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(self.threads)}
        done = subprocess.run(list(map(str, command)), cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stdout[-1000:]}{done.stderr[-2000:]}")

    def _once(self, folder: Path, write: Callable[[Path], None]) -> Path:
        """The folder, written under another name until it is complete."""
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            unfinished = folder.with_name(f"{folder.name}-unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            write(unfinished)
            unfinished.rename(folder)
        return folder


def write_tokenizer(folder: Path, size: int) -> None:
    """Write a byte-level tokenizer without merges: the 256 bytes, which encode any text, and random words.

    A text of n ASCII letters is encoded as n tokens; the words appear in decoded text only.
    """
    chosen = random.Random(0)
    vocabulary: dict[str, int] = {}
    for token in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[token] = len(vocabulary)
    while len(vocabulary) < size:
        word = "".join(chosen.choices("abcdefghijklmnopqrstuvwxyz", k=chosen.randint(2, 9)))
        vocabulary.setdefault(f"Ġ{word}" if chosen.random() < 0.7 else word, len(vocabulary))
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    for file in folder.glob("*token*"):
        file.unlink()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
