"""Plain FastAPI: one process, the whole pipeline for each request in Starlette's thread pool."""

import json
import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from benchmarks.serving.pipeline import Pipeline

app = FastAPI()
pipeline = Pipeline(Path(os.environ["SERVING_BUNDLE"]))


@app.post("/predict")
async def predict(request: Request) -> Response:
    body = await request.body()
    return Response(await run_in_threadpool(pipeline, body), media_type="application/json")


if __name__ == "__main__":
    settings = json.loads(os.environ["SERVING_SETTINGS"])
    uvicorn.run(app, port=int(os.environ["SERVING_PORT"]), log_level="warning", access_log=False, **settings)
