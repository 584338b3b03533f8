"""Jobs of the project, whoever made them: listed, cancelled."""

from gemini_batch.gemini.client import GeminiClient
from gemini_batch.gemini.remote import BatchJob
from gemini_batch.single.service import connect, patiently


def list_batch_jobs(display_name: str | None = None, *, client: GeminiClient | None = None) -> list[BatchJob]:
    """The jobs that the key can see, newest first.

    Args:
        display_name: only those called that.
        client: the service; by default that of the environment.

    Returns:
        Records with `name`, `display_name`, `state` (`JOB_STATE_RUNNING`), `created_at`, `ended_at`, `model`,
        `requests`, `succeeded`, `failed`, `error` and more; None for what the service does not say.

    Raises:
        RemoteError: the service cannot be asked.
        BadInput: no API key.
    """
    service = connect(client)
    shown = {job.name: job for job in patiently(service.show_jobs)}  # a job may stand on two pages
    return [job for job in shown.values() if display_name in (None, job.display_name)]


def cancel_batch_job(job_name: str, *, client: GeminiClient | None = None) -> None:
    """Ask the service to end a job. It stops soon and not at once, and may succeed all the same:
    `monitor_batch_job` tells. What it has done by then may be paid for, and kept for a download or not.

    Raises:
        NotFound: the key sees no such job.
        RemoteError: the service cannot be asked, or the job has ended already.
    """
    service = connect(client)
    patiently(lambda: service.cancel_job(job_name))
