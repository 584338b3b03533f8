"""The library: prompts in, answers out, by the same run that the command makes."""

from gemini_batch.library.call import distributed_batch_process
from gemini_batch.library.handle import Run
from gemini_batch.library.rows import Row

__all__ = ["Row", "Run", "distributed_batch_process"]
