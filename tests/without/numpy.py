"""In the path of every process that a test starts: numpy is not there, as after `pip install gemini-batch-dist`.

It is no dependency. Arrow imports it wherever it is, and pandas with it at the first `pa.array`: half a second of CPU
in each of thousands of processes.
"""

raise ImportError("not a dependency of gemini-batch-dist, and hidden by the tests")
