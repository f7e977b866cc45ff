import asyncio

import pytest

from service.telemetry import request_ids

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = f"00-{TRACE}-b7ad6b7169203331-01"


def _scope(request_id: str, traceparent: str = "", **state: str) -> dict[str, object]:
    return {"headers": [(b"traceparent", traceparent.encode())], "state": {"request_id": request_id, **state}}


async def _ids(scope: dict[str, object]) -> dict[str, str]:
    request_ids.begin(scope)
    await asyncio.sleep(0)
    return await asyncio.create_task(_found())


async def _found() -> dict[str, str]:
    return request_ids.ids()


async def test_tasks_at_work_on_different_requests_have_their_own_ids_and_hand_them_on() -> None:
    found = await asyncio.gather(*(asyncio.create_task(_ids(_scope(name))) for name in ("one", "two")))
    assert found == [{"request_id": "one"}, {"request_id": "two"}]
    assert request_ids.ids() == {}


async def test_the_trace_is_the_one_that_the_spans_are_in_or_else_the_callers() -> None:
    assert (await asyncio.create_task(_ids(_scope("one", GIVEN))))["trace_id"] == TRACE
    assert (await asyncio.create_task(_ids(_scope("one", GIVEN, trace_id="ours"))))["trace_id"] == "ours"


@pytest.mark.parametrize(
    "traceparent",
    ["", "x", GIVEN.upper(), GIVEN[:-1], GIVEN + "-more", f"ff{GIVEN[2:]}", GIVEN.replace(TRACE, "0" * 32), "é" * 55],
)
async def test_a_traceparent_that_is_none_is_not_there(traceparent: str) -> None:
    assert "trace_id" not in await asyncio.create_task(_ids(_scope("one", traceparent)))
