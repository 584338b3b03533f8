"""The command `gemini-batch-dist`: arguments in, exit code out, everything else is done elsewhere.

Results for programs go to stdout, words for people to stderr.
The modules register their commands, in the order of help.
"""

from gemini_batch.cli import making, following, ordering, reading, setting, proving, serving  # noqa: F401, I001
from gemini_batch.cli.app import app, main

__all__ = ["app", "main"]
