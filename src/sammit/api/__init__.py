"""Sammit from Python: what `import sammit` offers, on the same path as the command line; see docs/python.md.

Nothing is printed, and a mistake is a `UserError` whose text is one line with the mend.
"""

from sammit.api.finished import Run, Score
from sammit.api.running import check, load, phantom, run
from sammit.errors import UserError

__all__ = ["Run", "Score", "UserError", "check", "load", "phantom", "run"]
