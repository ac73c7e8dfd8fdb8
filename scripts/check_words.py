"""Rejects unclear phrases in the code, the documentation and the command line's help.

The terms of gpux are in docs/reference/glossary.md. The phrases below are private jargon or hard to read, and were
found in its sources. ``python -m scripts.check_words`` prints each occurrence with a replacement.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHERE = ("src", "docs", "tests", "scripts", "README.md", "CONTRIBUTING.md", "noxfile.py", "dev")
KINDS = (".py", ".md", ".toml", "")
NOUN = "argument|array|file|folder|graph|id|json|list|model|name|number|option|precision|reference|size|text|token|url"
#: pattern -> replacement
PHRASES = {
    r"\bleav(e|es|ing) (\w+ |one of them |--\S+ )?away\b": "remove, omit",
    r"\bcannot be meant\b": "is invalid",
    rf"(?<!there )\bis no ({NOUN})\b": "is not a …",
    r"\b(is|are|was|were|be|been) told\b(?! apart)|\btold (by|from|to)\b": "reported, stated, given",
    r"\bas is meant\b": "as intended",
    r"\bwhat nobody\b": "the concrete noun",
    r"\blet(s|ting)? go of\b": "release",
    r"\bappetite\b": "memory use",
    r"\b(be|are|is) held to\b": "compared with",
    r"\bthat may be it\b": "candidates",
    r"\bits kin\b|\band (its|their) (kin|relatives)\b": "the related types",
    r"\bnobody (asked|told|listens|answers?)\b": "the concrete case",
    r"\bthere is none\b": "say what is missing",
    r"\bgoes on where\b": "resumes",
    r"\bno good\b": "invalid, an error",
    r"\bends? (one|this|that) way\b": "say which candidate fails",
}
#: files that quote the phrases
EXEMPT = ("scripts/check_words.py", "CHANGELOG.md", "tests/models/small/")


def main() -> int:
    """Print every occurrence; returns 1 if there are any."""
    listed = subprocess.run(["git", "ls-files", *WHERE], cwd=ROOT, capture_output=True, text=True, check=True)
    rules = [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in PHRASES.items()]
    places = 0
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if name.startswith(EXEMPT) or file.suffix not in KINDS or not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            for rule, instead in rules:
                if found := rule.search(line):
                    places += 1
                    print(f"{name}:{number}: {found[0]!r}: write {instead}")
    return int(places > 0)


if __name__ == "__main__":
    sys.exit(main())
