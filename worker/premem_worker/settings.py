"""What a worker can be told, by environment (PREMEM_WORKER_…) or by option."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from premem.roots import Roots
from premem_worker.checkpoints.remote import is_remote

EngineChoice = Literal["auto", "vllm", "transformers", "none"]


def _own_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "premem" / "checkpoints"


def _own_name() -> str:
    """Host and process for people, chance for two workers whose containers look alike."""
    return f"{socket.gethostname()[:150]}-{os.getpid()}-{secrets.token_hex(3)}"


class Settings(BaseSettings):
    """One worker's settings."""

    model_config = SettingsConfigDict(
        env_prefix="PREMEM_WORKER_", extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    service: str = Field(
        "http://127.0.0.1:8321",
        validation_alias=AliasChoices("PREMEM_WORKER_SERVICE", "PREMEM_SERVICE"),
        description="URL of the premem service that hands out the work.",
    )
    api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("PREMEM_WORKER_API_KEY", "PREMEM_API_KEY"),
        description="Key for the service, pmk_…; only a service on this machine works without one. Environment only.",
    )
    engine: EngineChoice = Field(
        "auto",
        description="What runs the model; auto takes vLLM where it is installed and transformers elsewhere; none needs no "
        "GPU and only grades anew what others sampled.",
    )
    checkpoint_roots: Roots = Field(
        default_factory=list,
        description="Folders under which checkpoints may lie; a checkpoint anywhere else is refused.",
    )
    checkpoint_stores: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Places in object stores, such as s3://bucket/runs, under which checkpoints may lie.",
    )
    cache: Path = Field(
        default_factory=_own_cache,
        description="Folder for checkpoints that were fetched from a store or the hub, or merged of an adapter and its base.",
    )
    cache_bytes: int = Field(
        200 * 10**9, ge=1, description="Most that the cache holds; beyond it the longest unused checkpoints go."
    )
    adapters: Literal["auto", "merged", "beside"] = Field(
        "auto",
        description="How LoRA adapters are loaded: merged into their base, or computed beside it, which vLLM does for the "
        "usual ones; auto does that on a GPU.",
    )
    max_lora_rank: int = Field(
        512,
        ge=1,
        le=65_536,
        description="Highest rank of an adapter; one above it is refused before anything is loaded.",
    )
    hub: bool = Field(False, description="Whether checkpoints may be downloaded from the Hugging Face hub.")
    name: str = Field(
        default_factory=_own_name, min_length=1, max_length=200, description="Unique among the workers that run."
    )
    graders: int = Field(
        default_factory=lambda: max(1, min(8, (os.cpu_count() or 1) - 1)),
        ge=1,
        le=256,
        description="Processes that grade answers while the engine goes on.",
    )
    request_seconds: float = Field(
        60.0, gt=0, le=3600, description="Seconds to wait for one answer of the service before asking again."
    )
    keep_seconds: float = Field(
        30.0,
        ge=0.05,
        description="How often what is done of a task is kept with the service, for whoever gets it next.",
    )
    ending_seconds: float = Field(
        7.0,
        gt=0,
        le=3600,
        description="Seconds after SIGTERM until a task that could not be finished is given back and the worker ends.",
    )
    max_sequences: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Answers computed side by side; absent: 1,024 with vLLM on a GPU, 256 with transformers there, 128 "
        "on a CPU.",
    )
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Share of a GPU's memory that vLLM may take; absent: all but 4 GiB."
    )
    engine_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="Seconds without a sign of life (a step of the model) during a pass, after which the engine is "
        "killed and its task fails; an engine that cannot be killed takes the worker along, with exit status 75.",
    )
    load_seconds: float = Field(
        3600.0, gt=0, le=86_400, description="The same while a checkpoint is loaded, which shows no steps."
    )
    lease_ahead: bool = Field(
        True,
        description="Whether the next task is leased and its rows fetched in the last seconds of the one before, and "
        "results are handed in while the next pass runs.",
    )
    once: bool = Field(False, description="End after one task.")
    exit_when_idle: float | None = Field(
        None, ge=0, description="End after so many seconds without a task; absent: wait for tasks forever."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least serious lines that the log shows."
    )

    @field_validator("service")
    @classmethod
    def _is_url(cls, service: str) -> str:
        try:
            url = httpx.URL(service)
        except httpx.InvalidURL as error:
            raise ValueError(f"{service!r} is no URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{service!r} is no URL: it must look like http://host:port")
        return service.rstrip("/")

    @field_validator("checkpoint_stores", mode="before")
    @classmethod
    def _separated(cls, stores: object) -> object:
        """In the environment, with commas between them."""
        return [one.strip() for one in stores.split(",") if one.strip()] if isinstance(stores, str) else stores

    @field_validator("checkpoint_stores")
    @classmethod
    def _are_urls(cls, stores: list[str]) -> list[str]:
        for store in stores:
            if not is_remote(store):
                raise ValueError(f"{store!r} is no place in an object store: it must look like s3://bucket/prefix")
        return stores


def _parser() -> argparse.ArgumentParser:
    fields = Settings.model_fields

    def told(name: str) -> str:
        return str(fields[name].description).replace("%", "%%")

    parser = argparse.ArgumentParser(
        prog="python -m premem_worker",
        description="Work for a premem service: lease a task, load its checkpoint, score the references, sample "
        "answers, grade them, hand in the result, and again. Start as many workers as you have GPUs, on any machine "
        "that reaches the service and reads the checkpoints. SIGTERM or Ctrl-C gives the task in hand back.",
        epilog="Every option can be set in the environment too, as PREMEM_WORKER_SERVICE, PREMEM_WORKER_ENGINE and so "
        "on (PREMEM_WORKER_CHECKPOINT_ROOTS holds folders separated like those of PATH). "
        "The service's key is read from PREMEM_API_KEY. "
        "Example: python -m premem_worker --service http://127.0.0.1:8321 --checkpoint-root runs",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--service", metavar="URL", help=told("service"))
    parser.add_argument("--engine", choices=("auto", "vllm", "transformers", "none"), help=told("engine"))
    parser.add_argument(
        "--checkpoint-root",
        dest="checkpoint_roots",
        action="append",
        metavar="DIR",
        help=f"{told('checkpoint_roots')} Give it once for each folder.",
    )
    parser.add_argument(
        "--checkpoint-store",
        dest="checkpoint_stores",
        action="append",
        metavar="URL",
        help=f"{told('checkpoint_stores')} Give it once for each.",
    )
    parser.add_argument("--cache", metavar="DIR", help=told("cache"))
    parser.add_argument("--cache-bytes", metavar="N", help=told("cache_bytes"))
    parser.add_argument("--adapters", choices=("auto", "merged", "beside"), help=told("adapters"))
    parser.add_argument("--max-lora-rank", metavar="N", help=told("max_lora_rank"))
    parser.add_argument("--hub", action="store_true", help=told("hub"))
    parser.add_argument("--name", help=f"{told('name')} Absent: made of host, process and chance.")
    parser.add_argument("--graders", metavar="N", help=told("graders"))
    parser.add_argument("--request-seconds", metavar="SECONDS", help=told("request_seconds"))
    parser.add_argument("--keep-seconds", metavar="SECONDS", help=told("keep_seconds"))
    parser.add_argument("--ending-seconds", metavar="SECONDS", help=told("ending_seconds"))
    parser.add_argument("--max-sequences", metavar="N", help=told("max_sequences"))
    parser.add_argument("--gpu-memory-utilization", metavar="SHARE", help=told("gpu_memory_utilization"))
    parser.add_argument("--engine-seconds", metavar="SECONDS", help=told("engine_seconds"))
    parser.add_argument("--load-seconds", metavar="SECONDS", help=told("load_seconds"))
    parser.add_argument(
        "--no-lease-ahead",
        dest="lease_ahead",
        action="store_false",
        help="Hold one task at a time: lease the next one after the result of the one before was handed in.",
    )
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--once", action="store_true", help=told("once"))
    ends.add_argument("--exit-when-idle", metavar="SECONDS", help=told("exit_when_idle"))
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help=told("log_level"))
    return parser


def read_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Options before environment before defaults. Ends the program with status 2 where one cannot be used."""
    parser = _parser()
    given: dict[str, Any] = vars(parser.parse_args(arguments))
    try:
        return Settings(**given)
    except ValidationError as error:
        # Not the values themselves: one of them may be a key.
        parser.error("; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors()))
