from __future__ import annotations

from offshelf.worker.health import Health


def test_a_broken_worker_does_not_become_ready_again() -> None:
    health = Health()
    assert (health.ready, health.detail) == (False, "starting")
    health.say(ready=True)
    assert (health.ready, health.ended) == (True, False)
    health.broken(RuntimeError("the device fell off"))
    health.say(ready=True, detail="fine")
    assert (health.ready, health.ended, health.is_broken) == (False, True, True)
    assert health.detail == "RuntimeError: the device fell off"


def test_a_suspicion_is_told_once_and_the_end_for_ever() -> None:
    health = Health()
    health.suspect(ValueError())
    assert [health.wait(0), health.wait(0)] == [True, False]
    health.stop()
    assert [health.wait(0), health.wait(0)] == [True, True]
