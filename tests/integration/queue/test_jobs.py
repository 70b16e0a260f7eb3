from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from offshelf.core.jobs import TERMINAL, JobState
from offshelf.errors import (
    CapacityError,
    ErrorInfo,
    InvalidImage,
    InvalidParameter,
    JobConflict,
    UnknownName,
)
from offshelf.queue import connection
from offshelf.queue.events import RedisEvents
from offshelf.queue.jobs import (
    WAITING_TO_TRAIN,
    RedisJobs,
    events_key,
    pace_key,
    record_key,
    shards_key,
    tries_key,
)
from tests.integration.queue.test_interactive import EchoWorker, asker, requests

if TYPE_CHECKING:
    import redis


@pytest.fixture
def jobs(state: redis.Redis) -> RedisJobs:
    times = count(1_700_000_000)
    return RedisJobs(state, ttl_s=100, clock=lambda: float(next(times)))


def new(jobs: RedisJobs, **params: Any) -> str:
    return jobs.create("head", "default", params or {"a": 1})[0].id


def test_a_new_job_is_queued_and_read_back_whole(jobs: RedisJobs) -> None:
    job, fresh = jobs.create("head", "default", {"dataset": "d", "C": 0.1})
    assert fresh
    assert jobs.get(job.id) == job
    assert (job.state, job.params) == (JobState.QUEUED, {"dataset": "d", "C": 0.1})


def test_an_idempotency_key_gives_the_first_job_and_refuses_other_params(jobs: RedisJobs) -> None:
    first, _ = jobs.create("head", "default", {"a": 1}, "key")
    assert jobs.create("head", "default", {"a": 1}, "key") == (first, False)
    with pytest.raises(JobConflict):
        jobs.create("head", "default", {"a": 2}, "key")
    assert jobs.create("head", "other", {"a": 2}, "key")[1]


def test_simultaneous_posts_with_one_key_make_one_job(jobs: RedisJobs) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: jobs.create("head", "default", {"a": 1}, "k"), range(32)))
    assert len({job.id for job, _ in made}) == 1
    assert sum(fresh for _, fresh in made) == 1


def test_another_owner_does_not_see_a_job(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    with pytest.raises(UnknownName):
        jobs.get(job_id, "other")
    with pytest.raises(UnknownName):
        jobs.cancel(job_id, "other")


def test_lists_are_newest_first_in_pages_without_those_that_expired(
    jobs: RedisJobs, state: redis.Redis
) -> None:
    ids = [new(jobs) for _ in range(7)]
    state.delete(record_key(ids[3]))
    first, more = jobs.list("default", None, 3)
    rest, end = jobs.list("default", first[-1].id, 10)
    assert [job.id for job in (*first, *rest)] == [i for i in reversed(ids) if i != ids[3]]
    assert (more, end) == (True, False)


def test_a_shard_is_counted_once_however_often_it_is_told(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    jobs.plan(job_id, "extracting", total=10, shards=2)
    jobs.plan(job_id, "extracting", total=99, shards=9)
    assert jobs.shard_done(job_id, 0, 4, 1) is False
    assert jobs.shard_done(job_id, 0, 4, 1) is False
    assert jobs.shard_done(job_id, 1, 5, 0) is True
    assert jobs.shard_done(job_id, 1, 5, 0) is True
    job = jobs.get(job_id)
    assert (job.total, job.done, job.failed) == (10, 9, 1)


def test_shards_told_by_many_threads_add_up(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    jobs.plan(job_id, "extracting", total=200, shards=50)
    with ThreadPoolExecutor(8) as pool:
        last = list(pool.map(lambda n: jobs.shard_done(job_id, n % 50, 3, 1), range(100)))
    job = jobs.get(job_id)
    assert (job.done, job.failed, any(last)) == (150, 50, True)


def test_of_many_who_end_a_job_one_wins(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING)

    def end(number: int) -> bool:
        to = JobState.SUCCEEDED if number % 2 else JobState.FAILED
        try:
            jobs.advance(job_id, to)
        except JobConflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(end, range(16))) == 1


def test_results_add_up_and_the_end_is_recorded(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING, stage="extracting", result={"a": 1})
    error = ErrorInfo.of(InvalidImage("torn"))
    job = jobs.advance(job_id, JobState.FAILED, error=error, result={"b": 2})
    assert (job.result, job.error, job.stage) == ({"a": 1, "b": 2}, error, "failed")
    assert job.started_s is not None
    assert job.finished_s is not None
    assert job.finished_s > job.started_s


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_asked(jobs: RedisJobs) -> None:
    queued, running = new(jobs), new(jobs)
    jobs.advance(running, JobState.RUNNING)
    assert jobs.cancel(queued, "default").state is JobState.CANCELLED
    assert jobs.cancel(running, "default").state is JobState.CANCELLING
    assert jobs.cancel(running, "default").state is JobState.CANCELLING
    with pytest.raises(JobConflict):
        jobs.cancel(queued, "default")
    with pytest.raises(JobConflict):
        jobs.advance(running, JobState.RUNNING)


def test_a_job_that_only_waits_to_train_is_cancelled_at_once(jobs: RedisJobs) -> None:
    waits, trains = new(jobs), new(jobs)
    for job_id in (waits, trains):
        jobs.advance(job_id, JobState.RUNNING, stage=WAITING_TO_TRAIN)
    jobs.advance(trains, JobState.RUNNING, stage="training")
    assert jobs.cancel(waits, "default").state is JobState.CANCELLED
    assert jobs.cancel(trains, "default").state is JobState.CANCELLING


def test_old_queued_jobs_are_unsure_until_something_is_done_for_them(state: redis.Redis) -> None:
    now_s = 1_700_000_000.0
    jobs = RedisJobs(state, ttl_s=100, clock=lambda: now_s)
    told, begun, cancelled, lost = (new(jobs) for _ in range(4))
    jobs.made_sure(told)
    jobs.advance(begun, JobState.RUNNING)
    jobs.cancel(cancelled, "default")
    assert jobs.unsure(30.0) == []
    now_s += 31
    assert jobs.unsure(30.0) == [lost]


def test_all_keys_of_a_finished_job_expire(jobs: RedisJobs, state: redis.Redis) -> None:
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING)
    jobs.tried(job_id, "start")
    jobs.plan(job_id, "extracting", 1, 1)
    jobs.shard_done(job_id, 0, 1, 0, took_s=1.0)
    jobs.advance(job_id, JobState.SUCCEEDED)
    # A straggler brings no key back for ever.
    jobs.tried(job_id, "shard:0")
    jobs.shard_done(job_id, 1, 1, 0, took_s=1.0)
    for key in (record_key, events_key, shards_key, tries_key, pace_key):
        assert 0 < state.ttl(key(job_id)) <= 100


def test_tries_are_counted_per_step_until_it_ends_well(jobs: RedisJobs) -> None:
    job_id = new(jobs)
    assert [jobs.tried(job_id, "shard:1") for _ in range(3)] == [1, 2, 3]
    assert jobs.tried(job_id, "shard:2") == 1
    jobs.settled(job_id, "shard:1")
    assert jobs.tried(job_id, "shard:1") == 1
    assert jobs.get(job_id).attempts == 3


async def test_events_are_replayed_then_followed_to_the_end(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING, stage="extracting")
    jobs.plan(job_id, "extracting", 2, 1)
    async with connection.connect_async(url, connection.STATE) as client:
        events = RedisEvents(client, silence_s=0.1)
        seen: list[tuple[str, dict[str, Any]]] = []

        async def follow() -> None:
            async for event_id, data in events.follow(job_id, "0"):
                if event_id:
                    seen.append((event_id, data))

        follower = asyncio.create_task(follow())
        async with asyncio.timeout(10):
            while len(seen) < 3:  # noqa: ASYNC110 - it polls what another task writes
                await asyncio.sleep(0.01)
            jobs.shard_done(job_id, 0, 2, 0)
            jobs.advance(job_id, JobState.SUCCEEDED, result={"head": "h"})
            await follower
        assert [data["type"] for _, data in seen] == [
            "state", "state", "progress", "progress", "state",
        ]  # fmt: skip
        assert (seen[2][1]["total"], seen[3][1]["done"]) == (2, 2)
        assert seen[4][1]["state"] in TERMINAL
        assert seen[4][1]["result"] == {"head": "h"}
        again = [event async for event in events.follow(job_id, seen[2][0])]
        assert again == [("", {}), *seen[3:]]
        assert [event async for event in events.follow(job_id, seen[-1][0])] == [("", {})]


async def test_a_search_is_told_in_the_record_and_as_events(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    search = {"done": 4, "total": 9, "C": 0.1, "fold": 2, "score": None}
    jobs.searched(job_id, search)
    assert jobs.get(job_id).search is None, "it does not run"
    jobs.advance(job_id, JobState.RUNNING)
    jobs.searched(job_id, search)
    record = jobs.get(job_id)
    assert (record.stage, record.search, record.done) == ("choosing C", search, 0)
    jobs.advance(job_id, JobState.SUCCEEDED)
    jobs.searched(job_id, search | {"done": 5})
    assert (jobs.get(job_id).stage, jobs.get(job_id).search) == ("succeeded", search)
    async with connection.connect_async(url, connection.STATE, connections=1) as client:
        events = RedisEvents(client, silence_s=0.1)
        seen = [data async for event_id, data in events.follow(job_id, "0") if event_id]
    assert [(data["type"], data.get("search")) for data in seen] == [
        ("state", None), ("state", None), ("progress", search), ("state", None),
    ]  # fmt: skip


async def test_too_many_followers_are_refused_and_hold_up_no_ask(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    async with connection.connect_async(url, connection.STATE, connections=2) as client:
        events = RedisEvents(client, silence_s=5.0, max_followers=2)
        followers = [events.follow(job_id, "0") for _ in range(2)]
        waiting = []
        for follower in followers:
            assert await anext(follower) == ("", {})
            assert (await anext(follower))[1]["state"] == "queued"
            waiting.append(asyncio.ensure_future(anext(follower)))
        with pytest.raises(CapacityError):
            await anext(events.follow(job_id, "0"))
        with EchoWorker(url):
            async with asker(url) as interactive, asyncio.timeout(4):
                await interactive.ask(requests(interactive, "r", 3))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        async with asyncio.timeout(4):
            assert await anext(events.follow(job_id, "0")) == ("", {})


@pytest.mark.parametrize("after", ["18446744073709551616", "1-18446744073709551616", "x", "1-", ""])
async def test_what_is_no_id_of_an_event_is_refused(jobs: RedisJobs, url: str, after: str) -> None:
    job_id = new(jobs)
    async with connection.connect_async(url, connection.STATE) as client:
        with pytest.raises(InvalidParameter, match="not the id of an event"):
            await anext(RedisEvents(client).follow(job_id, after))


async def test_the_largest_id_of_an_event_is_one(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    jobs.cancel(job_id, "default")
    async with connection.connect_async(url, connection.STATE) as client:
        after = "18446744073709551615-18446744073709551615"
        assert [event async for event in RedisEvents(client).follow(job_id, after)] == [("", {})]


async def test_silence_is_told_so_that_the_line_stays_open(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    async with connection.connect_async(url, connection.STATE) as client:
        events = RedisEvents(client, silence_s=0.05).follow(job_id, "0")
        assert await anext(events) == ("", {})  # it is there
        assert (await anext(events))[1]["state"] == "queued"
        assert await anext(events) == ("", {})
        await events.aclose()  # type: ignore[attr-defined]


async def test_events_of_a_job_that_is_not_there_are_refused(url: str) -> None:
    async with connection.connect_async(url, connection.STATE) as client:
        with pytest.raises(UnknownName):
            await anext(RedisEvents(client).follow("none", "0"))


def test_a_job_tells_its_pace_and_what_is_left(state: redis.Redis) -> None:
    now_s = 1000.0
    jobs = RedisJobs(state, ttl_s=100, clock=lambda: now_s)
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING)
    jobs.plan(job_id, "extracting", total=100, shards=10)
    jobs.shard_done(job_id, 0, 10, 0, reused=10)
    job = jobs.get(job_id)
    assert (job.reused, job.images_per_s, job.left_s) == (10, None, None)
    now_s = 1005.0
    jobs.shard_done(job_id, 1, 9, 1, took_s=5.0)
    assert (jobs.get(job_id).images_per_s, jobs.get(job_id).left_s) == (2.0, 40.0)
    now_s = 9000.0  # after a pause
    jobs.shard_done(job_id, 2, 10, 0, reused=5, took_s=2.5)
    jobs.shard_done(job_id, 2, 10, 0, reused=5, took_s=2.5)
    job = jobs.get(job_id)
    assert (job.done, job.failed, job.reused) == (29, 1, 15)
    assert job.images_per_s == 2.0
    assert job.left_s == 35.0
    jobs.advance(job_id, JobState.CANCELLED)
    assert (jobs.get(job_id).left, jobs.get(job_id).left_s) == (0, None)


async def test_events_tell_the_pace_also_when_they_are_replayed(jobs: RedisJobs, url: str) -> None:
    job_id = new(jobs)
    jobs.advance(job_id, JobState.RUNNING)
    jobs.plan(job_id, "extracting", total=40, shards=4)
    jobs.shard_done(job_id, 0, 10, 0, reused=4, took_s=3.0)
    jobs.advance(job_id, JobState.FAILED)
    async with connection.connect_async(url, connection.STATE) as client:
        found = [data async for _, data in RedisEvents(client).follow(job_id, "0") if data]
    progress = found[-2]
    assert (progress["reused"], progress["computed"]) == (4, 6)
    assert (progress["images_per_s"], progress["left_s"]) == (2.0, 15.0)
    assert (found[2]["left_s"], found[-1]["left_s"]) == (None, None)


def test_open_jobs_are_those_that_have_not_ended(jobs: RedisJobs, state: redis.Redis) -> None:
    ids = [jobs.create("feature_set", "default", {}, total=n)[0].id for n in (1, 2, 3)]
    jobs.create("feature_set", "other", {})
    jobs.cancel(ids[0], "default")
    assert sorted(job.total for job in jobs.open("default")) == [2, 3]
    state.delete(record_key(ids[1]))
    assert [job.id for job in jobs.open("default")] == [ids[2]]
    assert [job.id for job in jobs.open("default")] == [ids[2]]
