"""The Hugging Face Hub: :class:`~gpux.huggingface.manager.HuggingFaceManager`, search, access checks and login."""
