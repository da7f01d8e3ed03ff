"""Answers one request after another; see `line` for their form.

python -I -c START PARENT FOLDER
"""

from __future__ import annotations

import shutil
import sys
import traceback
from pathlib import Path

from .line import Facts, listen, read, requests, say, write

FOLDER = Path(sys.argv[1])
LINES = listen(FOLDER)  # before nnU-Net is imported, which takes seconds: nobody may be there any more at its end

from .answers import Worker  # noqa: E402


def main() -> None:
    """Until nobody asks any more."""
    worker = Worker()
    for request in requests(LINES):
        try:
            facts, arrays = worker.known[request["do"]](request["facts"], read(request["arrays"]))
            answer: Facts = {"facts": facts, "arrays": write(FOLDER, arrays)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(answer)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # nobody is there any more
        shutil.rmtree(FOLDER, ignore_errors=True)
