"""The lock on refinements, on real servers and over HTTP."""

import asyncio

import httpx
import pytest

from service.errors import Conflict
from service.redis.server import RedisServer
from service.versions.refinement_lock import RefinementLock

PATH = "/v1/models/tiny/refinement"


@pytest.fixture
def lock(redis: RedisServer) -> RefinementLock:
    return RefinementLock(redis)


async def test_one_holder_at_a_time_and_each_gets_a_larger_token(lock: RefinementLock, model: str) -> None:
    first = await lock.take(model, "ada", 60, above=0)
    assert (first.holder, first.token, first.left_s) == ("ada", 1, 60)
    with pytest.raises(Conflict, match=f"ada is refining {model}: wait until it has ended, at least (60|59) s"):
        await lock.take(model, "bob", 60, above=0)
    assert (await lock.drop(model, first.token)).holder is None
    assert (await lock.take(model, "bob", 60, above=0)).token == 2


async def test_the_same_holder_may_ask_again_and_keeps_its_token(lock: RefinementLock, model: str) -> None:
    for _ in range(2):
        assert (await lock.take(model, "ada", 60, above=0)).token == 1


async def test_a_holder_that_falls_silent_loses_it_and_cannot_keep_or_drop_it(lock: RefinementLock, model: str) -> None:
    lost = await lock.take(model, "ada", 0.001, above=0)
    await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match="is lost: it ran out"):
        await lock.keep(model, lost.token, 60)
    taken = await lock.take(model, "bob", 60, above=0)
    with pytest.raises(Conflict, match="is lost: bob has it now"):
        await lock.keep(model, lost.token, 60)
    assert (await lock.drop(model, lost.token)).holder == "bob"
    assert (await lock.keep(model, taken.token, 120)).left_s == 120


async def test_a_server_that_lost_its_data_gives_no_token_again(lock: RefinementLock, model: str) -> None:
    assert (await lock.take(model, "ada", 60, above=41)).token == 42
    assert (await lock.look(model)).holder == "ada"


async def test_it_is_free_before_anybody_took_it(lock: RefinementLock, model: str) -> None:
    free = await lock.look(model)
    assert (free.holder, free.token, free.left_s) == (None, 0, 0)


async def test_of_many_who_ask_at_once_one_gets_it(lock: RefinementLock, model: str) -> None:
    asked = [lock.take(model, f"holder {number}", 60, above=0) for number in range(20)]
    replies = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(reply, Conflict) for reply in replies) == 1


async def test_the_same_over_http(http: httpx.AsyncClient) -> None:
    taken = await http.post(PATH, json={"holder": "ada", "length_s": 60, "above": 6})
    assert (taken.status_code, taken.json()["token"]) == (200, 7)
    refused = await http.post(PATH, json={"holder": "bob", "length_s": 60})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert (await http.put(PATH, json={"token": 7, "length_s": 90})).json()["left_s"] == 90
    assert (await http.put(PATH, json={"token": 6, "length_s": 90})).status_code == 409
    assert (await http.delete(PATH, params={"token": 7})).json()["holder"] is None
    assert (await http.get(PATH)).json() == {"model": "tiny", "holder": None, "token": 7, "left_s": 0}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, {"holder": "", "length_s": 60}, 400),
        (PATH, {"holder": "a\nb", "length_s": 60}, 400),
        (PATH, {"holder": "ada", "length_s": 0}, 400),
        (PATH, {"holder": "ada", "length_s": 1e9}, 400),
        (PATH, {"holder": "ada", "length_s": 60, "above": 2**53}, 400),
        (PATH, {"holder": "ada", "length_s": 60, "above": -1}, 400),
        ("/v1/models/NO%20MODEL/refinement", {"holder": "ada", "length_s": 60}, 404),
    ],
)
async def test_what_cannot_be_is_refused(
    http: httpx.AsyncClient, path: str, body: dict[str, str | float], status: int
) -> None:
    assert (await http.post(path, json=body)).status_code == status
