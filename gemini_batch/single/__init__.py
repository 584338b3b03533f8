"""One job at a time: the calls of the public gemini-batch library, over the code of the distributed path."""
