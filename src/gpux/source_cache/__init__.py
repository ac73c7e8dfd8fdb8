"""The standard Hugging Face cache, shared with every Hugging Face tool: layout, scan, verification, removal."""
