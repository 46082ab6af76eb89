"""Where renders happen when no worker process does them."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
from imagefactory.workers.rendering import InThread
assert not any(name.partition(".")[0] == "PIL" for name in sys.modules)
sys.modules.update(dict.fromkeys(sys.argv[1:]))
print(InThread().is_working())
"""


@pytest.mark.parametrize(("missing", "expected"), [([], "True"), (["PIL"], "False")])
def test_a_thread_works_where_the_decoder_can_be_loaded(missing: list[str], expected: str) -> None:
    found = subprocess.run([sys.executable, "-c", CODE, *missing], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected
