"""A diagnosis in words, for people. Pure."""

from typing import Any

from gemini_batch.findings import findings_in_words


def diagnosis_in_words(found: dict[str, Any]) -> list[str]:
    runs, jobs, files = found["runs"], found["live_jobs"], found["files"]
    said = [f"runs below {found['runs_root']}: {runs['looked_at']:,} looked at, {runs['finished']:,} finished"]
    if runs["finished_of_other_keys"]:
        said.append(f"not looked at: {runs['finished_of_other_keys']:,} finished runs of other keys")
    if jobs:
        said.append(
            f"live jobs: {jobs['of_these_runs']:,} of these runs, {jobs['of_runs_not_found_here']:,} of runs not found "
            f"here, {jobs['of_other_programs']:,} of other programs"
        )
    if files:
        said.append(
            "files: "
            + ", ".join(
                f"{files[name]['files']:,} {words} ({files[name]['bytes']:,} bytes)"
                for name, words in (
                    ("of_these_runs", "of these runs"),
                    ("of_runs_not_found_here", "of runs not found here"),
                    ("other_and_results", "others and results"),
                )
            )
        )
    if found["looked_at"]:
        said.append(f"the service as of {found['looked_at']}")
    return [*said, *findings_in_words(found["findings"], "nothing needs you")]
