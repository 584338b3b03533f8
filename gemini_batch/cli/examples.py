"""What `--help` of a command shows it doing. A test parses every line."""

EXAMPLES = {
    "": """
        gemini-batch-dist demo   see it work, without a key
        gemini-batch-dist plan reviews.parquet   what it would send and cost
        gemini-batch-dist submit reviews.parquet --schema schemas:Review
        gemini-batch-dist status   of the newest run
        gemini-batch-dist results --to reviews.csv
    """,
    "plan": """
        gemini-batch-dist plan reviews.parquet
        gemini-batch-dist plan reviews.parquet --tier 2 --simulate
        gemini-batch-dist plan s3://bucket/reviews.parquet --json
    """,
    "submit": """
        gemini-batch-dist submit reviews.parquet --schema schemas:Review
        gemini-batch-dist submit reviews.parquet --max-cost 25 --max-output-tokens 500
        gemini-batch-dist submit reviews.parquet --n-samples 3 --allow-failed 0.5%
        gemini-batch-dist submit reviews.parquet --broker redis://host/0 --detach
    """,
    "resume": """
        gemini-batch-dist resume   the newest run
        gemini-batch-dist resume runs/3f9c… --max-live-jobs 20
        gemini-batch-dist resume RUN --once   from cron, every ten minutes
    """,
    "retry": """
        gemini-batch-dist retry RUN   all that is not ok
        gemini-batch-dist retry RUN --kind truncated --max-output-tokens 8192
        gemini-batch-dist retry RUN --replace fixed.parquet
    """,
    "status": """
        gemini-batch-dist status   the newest run
        gemini-batch-dist status RUN --watch
        gemini-batch-dist status RUN --check --broker redis://host/0
        gemini-batch-dist status RUN --json
    """,
    "wait": """
        gemini-batch-dist wait RUN
        gemini-batch-dist wait RUN --timeout 3600 --json   exits 4 if it takes longer
    """,
    "runs": """
        gemini-batch-dist runs
        gemini-batch-dist runs --runs s3://bucket/runs --json
    """,
    "pause": """
        gemini-batch-dist pause RUN   no new jobs; those that run go on
        gemini-batch-dist resume RUN   and on again
    """,
    "cancel": """
        gemini-batch-dist cancel RUN   keep what there is, end the rest
        gemini-batch-dist retry RUN   buy the rest after all
    """,
    "results": """
        gemini-batch-dist results --to reviews.csv
        gemini-batch-dist results RUN --status failed --status invalid --with-input
        gemini-batch-dist results RUN --partial --to so-far.parquet
    """,
    "settings": """
        gemini-batch-dist settings   of a submit typed here
        gemini-batch-dist settings --config production.toml --tier 2
        gemini-batch-dist settings RUN   of a run, and which record said so
    """,
    "explain": """
        gemini-batch-dist explain RUN 42
        gemini-batch-dist explain RUN 42 --media-root /data=/mnt/data
    """,
    "audit": """
        gemini-batch-dist audit RUN
        gemini-batch-dist audit RUN --offline --json   files only, without a key
    """,
    "doctor": """
        gemini-batch-dist doctor --broker redis://host/0
    """,
    "worker": """
        gemini-batch-dist worker --broker redis://host/0 --runs /shared/runs -c 4
        gemini-batch-dist worker --allow-schema 'schemas.*' --log-format json
    """,
    "demo": """
        gemini-batch-dist demo
        gemini-batch-dist demo --rows 1000 --keep demo
    """,
}

EXITS = """
Exit codes: 0 every row answered, 3 some rows failed, 1 stopped and needs you,
2 bad usage or input, 4 not finished yet, 130 / 143 interrupted.
"""


def commands_in(name: str) -> list[str]:
    """The commands of an example, without what is said of them."""
    lines = (line.strip() for line in EXAMPLES[name].strip().splitlines())
    return [line.partition("   ")[0] for line in lines]


def epilog(name: str) -> str:
    """The end of a command's help."""
    said = "\n".join(["\b", "Examples:", *map(str.strip, EXAMPLES[name].strip().splitlines())])
    return said if name else f"{said}\n\n\b{EXITS.rstrip()}"
