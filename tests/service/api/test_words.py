"""Jobs with words and trackers, where the operator allows two trackers."""

from foremask.hints.kinds import Point, Text
from tests.service.api.conftest import Running, assert_refused, http, post, serves
from tests.service.api.test_cutouts import finished
from tests.service.api.worker import REQUESTS, worker

__all__ = ["worker"]  # a fixture

MASK, PROMPT = (f"/v2/video/segment/{name}" for name in ("foreground_mask", "mask_by_prompt"))
FIELD = (422, "field_invalid")
POINT = {"type": "point", "x": 5, "y": 24}

service = serves(trackers=("edgetam", "sam2.1-tiny"), networks=("u2net", "isnet"))


def test_a_client_reads_which_networks_and_trackers_it_may_name(service: Running) -> None:
    answer = http.get(f"{service.url}/v2/models", headers=service.headers)
    assert answer.json()["result"] == {
        "networks": ["isnet", "u2net"],
        "trackers": ["edgetam", "sam2.1-tiny"],
        "default_network": "isnet",
    }
    stranger = {"api_token": "fm_of-nobody-at-all"}
    assert_refused(http.get(f"{service.url}/v2/models", headers=stranger), 403, "token_invalid")


def test_words_are_followed_by_the_first_tracker_that_is_allowed(
    worker: Running, good: str
) -> None:
    status = finished(worker, post(worker, PROMPT, video=good, prompt="the red disc"))
    assert status["status"] == "COMPLETED", status
    assert status["result"]["mask_url"] == status["result"]["video_url"]
    spec = REQUESTS[-1].spec
    assert (spec.hints, spec.tracker) == ((Text("the red disc"),), "edgetam")


def test_a_refinement_keeps_the_job_s_tracker(worker: Running, good: str) -> None:
    answer = post(worker, MASK, video=good, hints=[POINT], tracker="sam2.1-tiny")
    first = finished(worker, answer)
    more = {"type": "text", "text": "the red disc"}
    path = f"/v2/status/{first['request_id']}/refine"
    finished(worker, post(worker, path, video=good, hints=[more]))
    spec = REQUESTS[-1].spec
    assert spec.hints == (Point(5, 24), Text("the red disc"))
    assert spec.tracker == "sam2.1-tiny"
    entry = http.get(f"{worker.url}/v2/jobs/{first['request_id']}", headers=worker.headers).json()
    assert (entry["tracker"], "network" in entry) == ("sam2.1-tiny", False)


def test_other_trackers_and_trackers_without_a_subject_are_refused(
    service: Running, good: str
) -> None:
    error = assert_refused(
        post(service, MASK, video=good, hints=[POINT], tracker="sam3"), *FIELD, "tracker"
    )
    assert "The trackers of this server are edgetam, sam2.1-tiny" in error["details"]
    assert_refused(post(service, MASK, video=good, tracker="sam4"), *FIELD, "tracker")
    assert_refused(post(service, MASK, video=good, tracker="edgetam"), *FIELD, "hints")
    assert_refused(post(service, PROMPT, video=good), *FIELD, "prompt")
    assert_refused(post(service, PROMPT, video=good, prompt=" "), *FIELD, "hints[0].text")
