"""Is everything that was bought accounted for? Ledger, files and the provider's job list, held against one another.

`files` and `walk` look (the only ones that touch anything), `facts` is what they saw, `replay` and `judge` decide,
`account` counts, `report` says it.
"""
