"""The Hugging Face Hub: :class:`~gpux.huggingface.manager.HuggingFaceManager` and what it is made of."""
