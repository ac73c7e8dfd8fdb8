"""The worker lets libraries read JSON files with a byte order mark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_byte_order_marks_are_skipped_by_loads_and_load(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    program = (
        "import json, sys\n"
        "from gpux.convert.worker.common.program import skip_byte_order_marks\n"
        "skip_byte_order_marks()\n"
        "text = open(sys.argv[1], encoding='utf-8')\n"
        "print(json.dumps([json.load(text), json.loads('\\ufeff[2]'), json.loads(b'3', parse_int=float)]))\n"
    )
    found = subprocess.run([sys.executable, "-c", program, tmp_path / "x.json"], capture_output=True, check=True)
    assert json.loads(found.stdout) == [{"a": 1}, [2], 3.0]
