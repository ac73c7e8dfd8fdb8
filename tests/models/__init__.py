"""Model repositories built without torch: tiny BERTs with known outputs, and the real all-MiniLM-L6-v2."""
