"""A client to be killed: leases samples, says so on its standard output, and labels them slowly, until it is killed.

`python -m tests.faults.campaign.annotator URL NAME`
"""

import itertools
import sys
import time

import httpx

from tests.faults.campaign.load import LABEL, Manners

PAUSE_S = 0.02


def main(url: str, name: str) -> None:
    with httpx.Client(base_url=url, timeout=20) as http:
        for number in itertools.count():
            request = {"annotator": name, "token": f"{name}-{number}"}
            lease = {**request, "n": 20, "lease_s": Manners().lease_s}
            samples = http.post("/v1/queue/lease", json=lease).raise_for_status().json()["samples"]
            sys.stdout.write(f"{len(samples)}\n")
            sys.stdout.flush()
            for sample in samples:
                time.sleep(PAUSE_S)
                http.post("/v1/queue/label", json={**request, "sample_id": sample["sample_id"], "label": LABEL})


if __name__ == "__main__":
    main(*sys.argv[1:])
