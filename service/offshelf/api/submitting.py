"""How a job gets from a request to the workers, and how it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from offshelf.api.services import OWNER
from offshelf.core.jobs import JobState
from offshelf.errors import DependencyError, ErrorInfo, JobError
from offshelf.heads.exports.interface import EXPORT
from offshelf.schemas.base import ErrorBody
from offshelf.schemas.datasets import DATASET
from offshelf.schemas.feature_sets import FEATURE_SET
from offshelf.schemas.heads import HEAD
from offshelf.schemas.jobs import JobBody, SearchBody
from offshelf.schemas.transforms import TRANSFORM

if TYPE_CHECKING:
    from offshelf.api.services import Services
    from offshelf.core.jobs import Job

MAX_KEY_CHARS: Final = 255

# Where the things that jobs make can be fetched, by their key in the result.
RESULT_PATHS: Final = {
    DATASET: "/v1/datasets",
    HEAD: "/v1/heads",
    FEATURE_SET: "/v1/feature-sets",
    TRANSFORM: "/v1/transforms",
}


def submit(
    services: Services, kind: str, params: dict[str, Any], key: str | None, total: int = 0
) -> Job:
    """Record a job and hand it to the workers; a repeated key gives the first job again.

    The record comes before the message, so a process that dies between them leaves a job without
    one until a worker looks for such jobs. A repeat of the key hands over again what is still
    queued: the first step of a job may be told twice, which changes nothing.
    Without a key such a job is failed at once, as far as Redis lets us.
    """
    job, new = services.jobs.create(kind, OWNER, params, key, total)
    if new or job.state is JobState.QUEUED:
        try:
            services.job_queue.submit(job)
        except DependencyError as error:
            if key is None:
                _give_up(services, job, error)
            raise
    return job


def _give_up(services: Services, job: Job, error: DependencyError) -> None:
    try:
        services.jobs.advance(job.id, JobState.FAILED, error=ErrorInfo.of(error))
    except (DependencyError, JobError):
        # The client is told of the first error. The record stays queued, for a worker to find
        # or for somebody to cancel.
        return


def job_body(job: Job) -> JobBody:
    """The job as the API shows it, with links to follow."""
    return JobBody(
        id=job.id,
        kind=job.kind,
        state=job.state,
        stage=job.stage,
        created_s=job.created_s,
        started_s=job.started_s,
        finished_s=job.finished_s,
        total=job.total,
        done=job.done,
        failed=job.failed,
        reused=job.reused,
        computed=job.done - job.reused,
        images_per_s=job.images_per_s,
        left_s=job.left_s,
        search=None if job.search is None else SearchBody.model_validate(job.search),
        attempts=job.attempts,
        params=job.params,
        error=None if job.error is None else ErrorBody.of(job.error),
        result=job.result,
        links=_links(job),
    )


def _links(job: Job) -> dict[str, str]:
    links = {"self": job_path(job), "events": f"{job_path(job)}/events"}
    if EXPORT in job.result:
        query = f"format={job.result['format']}"
        links[EXPORT] = f"/v1/heads/{job.result[EXPORT]}/export?{query}"
    for made, path in RESULT_PATHS.items():
        if made in job.result:
            links[made] = f"{path}/{job.result[made]}"
    return links


def job_path(job: Job) -> str:
    """Where the job is."""
    return f"/v1/jobs/{job.id}"
