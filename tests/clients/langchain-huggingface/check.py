"""``HuggingFaceEndpoint`` of langchain-huggingface."""

from __future__ import annotations

from importlib.metadata import version

from checks import CHAT, URL, check, main
from langchain_huggingface import HuggingFaceEndpoint


@check
def generates_and_streams() -> None:
    model = HuggingFaceEndpoint(
        endpoint_url=f"{URL}/models/{CHAT}", max_new_tokens=8, seed=1, huggingfacehub_api_token="none"
    )
    whole = model.invoke("abc")
    assert whole
    assert "".join(model.stream("abc")) == whole


main("langchain-huggingface", version("langchain-huggingface"))
