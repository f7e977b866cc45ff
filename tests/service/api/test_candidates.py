"""Candidates over HTTP, on a real service and store."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from models.contract.bundle import read_manifest
from models.contract.candidates import change_state, new_candidate, read_candidate
from models.contract.gate_report import GateReport, GateResult
from models.contract.index import ModelIndex, write_index

OpenService = Callable[..., Awaitable[httpx.AsyncClient]]
PATH = "/v1/models/tiny"


def candidate(folder: Path, *, passed: bool) -> Path:
    live = read_manifest(folder / "1")
    made = new_candidate(folder, parent=1, parent_sha256=live.onnx_sha256, snapshot=None, who="ada")
    provenance = live.provenance.model_copy(update={"seed": 7})
    (made / "manifest.json").write_bytes(
        live.model_copy(update={"version": "candidate", "provenance": provenance}).to_json()
    )
    for file in ("model.onnx", "model_card.md"):
        (made / file).write_bytes((folder / "1" / file).read_bytes())
    change_state(made, "gated", who="ada", reason="judged", passed=passed)
    return made


async def test_a_candidate_is_listed_refused_overridden_served_and_rolled_back(
    open_service: OpenService, tmp_path: Path, publish_version: Callable[..., None]
) -> None:
    store = tmp_path / "bundles"
    publish_version(store, 1)
    write_index(store / "tiny", ModelIndex(live=1))
    http = await open_service(bundles=store, poll_s=0)
    assert (await http.get(f"{PATH}/candidates")).json() == {"model": "tiny", "candidates": [], "damaged": []}
    made = candidate(store / "tiny", passed=False)
    (listed,) = (await http.get(f"{PATH}/candidates")).json()["candidates"]
    assert (listed["id"], listed["state"], listed["passed"], listed["version"]) == (made.name, "gated", False, None)
    body = {"candidate": made.name, "expected_live": "1", "reason": "a test"}
    refused = await http.post(f"{PATH}/promote", json=body)
    assert (refused.status_code, "did not pass: its gates failed" in refused.text) == (409, True)
    report = GateReport(
        candidate=made.name,
        parent=1,
        made_at="2026-12-01",
        attempt=1,
        results=(GateResult(gate="gain", outcome="failed", sentence="It is worse."),),
    )
    (made / "gates.json").write_bytes(report.to_json())
    (listed,) = (await http.get(f"{PATH}/candidates")).json()["candidates"]
    assert listed["gates"] == [{"gate": "gain", "outcome": "failed", "sentence": "It is worse."}]
    done = [await http.post(f"{PATH}/promote", json={**body, "override": True}) for _ in range(2)]
    assert [(one.json()["served"], one.json()["changed"]) for one in done] == [("2", True), ("2", False)]
    change = (await http.get(f"{PATH}/history")).json()["changes"][0]
    assert (change["candidate"], change["reason"]) == (made.name, "gates overridden: gain (failed); a test")
    back = await http.post(f"{PATH}/rollback", json={"expected_live": "2", "reason": "worse"})
    assert back.json()["served"] == "1"
    assert read_candidate(made).state == "rolled_back"
    assert (await http.post(f"{PATH}/promote", json={**body, "candidate": "none"})).status_code == 404
    neither = {"expected_live": "1", "reason": "a test"}
    for wrong in ({**body, "version": "1"}, neither, {**neither, "version": "2", "override": True}):
        assert (await http.post(f"{PATH}/promote", json=wrong)).status_code == 400
