"""The standard Hugging Face cache, which every Hugging Face tool shares."""
