"""llm with llm-ollama: its commands."""

from __future__ import annotations

import os
import tempfile
from importlib.metadata import version

from checks import CHAT, EMBEDDER, URL, check, main

os.environ["OLLAMA_HOST"] = URL
os.environ["LLM_USER_PATH"] = tempfile.mkdtemp()

import llm


@check
def lists_the_models_of_the_server() -> None:
    names = {model.model_id for model in llm.get_models()}
    assert f"ollama/{CHAT}:fp32" in names
    assert f"ollama/{EMBEDDER}:fp32" not in names


@check
def answers_a_prompt() -> None:
    found = llm.get_model(f"ollama/{CHAT}:fp32").prompt("abc", stream=False, num_predict=9, temperature=0)
    assert len(found.text()) == 9
    assert found.usage().output == 9


@check
def streams_a_conversation() -> None:
    talk = llm.get_model(f"ollama/{CHAT}:fp32").conversation()
    for text in ("abc", "d"):
        assert len("".join(talk.prompt(text, num_predict=9, temperature=0))) == 9


@check
def embeds_texts() -> None:
    model = llm.get_embedding_model(f"ollama/{EMBEDDER}:fp32")
    assert len(list(model.embed("the cat"))) == 32
    assert [len(one) for one in model.embed_multi(["a", "b"])] == [32, 32]


main("llm-ollama", version("llm-ollama"))
