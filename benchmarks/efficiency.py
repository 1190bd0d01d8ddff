"""What is left of the engine's speed in a whole worker: leases, heartbeats, grading and handing in, beside the bare engine.

    python -m benchmarks.efficiency [--rows 1024] [--shard-rows 256] [--rounds 5] [--keep]

One vLLM engine in this process, loaded once. In turns: all requests of a job given to vLLM's own loop at once and their
outcomes thrown away, and the same job done by a worker, its tasks leased from a real service (a process of its own),
graded and handed in. Both score
every reference and sample five answers of each with the same seeds, so that both draw the same tokens.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from benchmarks.measured import Measured, Ratio, header
from benchmarks.pipelining import HOUSE, SAMPLING, lasting, rate
from lab.questions import Row, training_rows, write_jsonl
from premem import Client
from premem.local import LocalService
from premem.method.sample_seeds import sample_seed
from premem.method.spans import split_target
from premem.wire.jobs import Checkpoint, JobRequest, Template
from premem_worker.engines.vllm.engine import VllmEngine
from premem_worker.engines.vllm.run import scoring_params, tokens_input


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--shard-rows", type=int, default=JobRequest.model_fields["shard_rows"].default)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    print(header())
    measured = Measured(
        "efficiency",
        f"{arguments.rows:,} references scored and {arguments.rows:,} x {SAMPLING.samples} answers sampled in tasks of "
        f"{arguments.shard_rows} rows, the lab's model, vLLM on a CPU.",
    )
    rows = training_rows(arguments.rows, seed=5)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalService(Path(folder) / "service", checkpoint_roots=[], workers=0) as local,
        Client(local.url) as client,
    ):
        data = Path(folder) / "train.jsonl"
        write_jsonl(data, rows)
        request = JobRequest(
            dataset=client.upload(data).id,
            checkpoints=[Checkpoint(path=str(HOUSE / "lab/base"))],
            sampling=SAMPLING,
            memorized_below=1.1,
            trajectory="everything",
            shard_rows=arguments.shard_rows,
        )
        parts = lasting("vllm")
        rate(client, request, parts, local.url, lease_ahead=True)  # loads the model
        engine = parts.make_engine() if parts.make_engine else None
        assert isinstance(engine, VllmEngine)
        whole, bare = [], []
        for _ in range(arguments.rounds):
            whole.append(rate(client, request, parts, local.url, lease_ahead=True))
            engine.load(HOUSE / "lab/base", dtype="float32")
            bare.append(bare_rate(engine, rows))
    measured.tell(Ratio("tokens of one engine", "worker", whole, "vLLM alone", bare, "tokens/s", aim="at least 0.95"))
    measured.note("spread of the worker's rounds", f"{min(whole):,.0f} to {max(whole):,.0f} tokens/s")
    measured.note("median of both", f"{statistics.median(whole):,.0f} and {statistics.median(bare):,.0f} tokens/s")
    if arguments.keep:
        measured.keep()


def bare_rate(engine: VllmEngine, rows: list[Row]) -> float:
    """Tokens per second of vLLM's own loop over everything at once, the answers thrown away."""
    llm: Any = engine._llm  # what is measured lies under the engine's own work
    llm.reset_prefix_cache()
    name = Path(HOUSE / "lab/base").name
    run = engine._pass(engine._now(), SAMPLING, lambda: False)
    tokens = 0
    start = time.perf_counter()
    for number, row in enumerate(rows):
        prompt, target = Template().render_prompt(row["question"]), Template().render_target(row["answer"])
        span = split_target(engine.tokenizer, prompt, target)
        tokens += span.target_tokens
        llm.add_request(f"score {number}", tokens_input(span.tokens), scoring_params())
        for sample in range(SAMPLING.samples):
            seed = sample_seed(SAMPLING.seed, checkpoint=name, example=str(number), sample=sample)
            prompt_tokens = span.tokens[: span.target_start]
            llm.add_request(f"sample {number} {sample}", tokens_input(prompt_tokens), run._sampling_params(seed))
    while llm.has_unfinished_requests():
        for output in llm.step():
            if output.request_id.startswith("sample"):
                tokens += len(output.outputs[0].token_ids)
    return tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
