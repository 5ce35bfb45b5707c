import pytest

from bench.load import Job


@pytest.mark.parametrize(
    ("job", "parts", "split"),
    [
        (Job("idle", 3), 2, [Job("idle", 2), Job("idle", 1)]),
        (Job("bulk", 4, None, (10,)), 2, [Job("bulk", 2, None, (10,)), Job("bulk", 2, None, (10,))]),
        (Job("connect", 8, 5), 2, [Job("connect", 4, 3), Job("connect", 4, 2)]),
        (Job("pingpong", 1, 9, (64, 2.5)), 2, [Job("pingpong", 1, 9, (64, 2.5))]),
    ],
)
def test_a_job_is_shared_out_whole(job: Job, parts: int, split: list[Job]) -> None:
    assert job.split(parts) == split


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        (Job("idle", 3), ["idle", "80", "3"]),
        (Job("bulk", 4, None, (10,)), ["bulk", "80", "4", "10"]),
        (Job("pingpong", 1, 9, (64, 2.5)), ["pingpong", "80", "1", "9", "64", "2.5"]),
    ],
)
def test_a_jobs_arguments_are_those_of_the_generator(job: Job, arguments: list[str]) -> None:
    assert job.arguments(80) == arguments
