"""What the provider holds and no ledger wants, and which runs need a person. Looks only: nothing is cancelled or
deleted.

`visit` looks, `judge` decides, `report` says it.
"""
