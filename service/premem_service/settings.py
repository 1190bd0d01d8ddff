"""All settings of the service, from environment variables (PREMEM_…) or flags of `python -m premem_service`."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from premem.roots import Roots


class Settings(BaseSettings):
    """One service process. Several of them may share a database and a store."""

    model_config = SettingsConfigDict(env_prefix="PREMEM_", env_ignore_empty=True)

    data_dir: Path = Field(
        Path("premem-data"),
        description="Folder for the SQLite database and the stored results, unless their URLs are set.",
    )
    database_url: str = Field(
        "",
        description="The database: sqlite:///FILE or postgresql://USER@HOST/NAME. Empty: premem.db in the data folder.",
    )
    store_url: str = Field(
        "",
        description="Where results are stored: a folder, or s3://BUCKET/PREFIX. Empty: the folder artifacts in the data folder.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on. Any address but loopback requires a key.")
    port: int = Field(8321, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = Field(
        None,
        description="A key that clients and workers must send. `python -m premem_service keys add` makes more keys.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Host names under which clients may reach the service (the Host header). Empty: the loopback names and the host.",
    )
    checkpoint_roots: Roots = Field(
        default_factory=list,
        description="Folders below which the service may read tokenizers of checkpoints, to show tokens in previews. Empty: none.",
    )
    lease_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="How long a worker keeps a task after its last heartbeat, in seconds."
    )
    retry_seconds: float = Field(
        1.0, ge=0.05, le=3600, description="After how many seconds a worker that got no task asks again."
    )
    max_failures: int = Field(3, ge=1, description="A task fails for good after this many reported errors.")
    max_losses: int = Field(
        5, ge=1, description="A task fails for good after this many leases that ran out without a word from the worker."
    )
    round_seconds: float = Field(
        1.0,
        ge=0.05,
        le=3600,
        description="Seconds between two rounds of housekeeping: expired leases, finished jobs, old artifacts.",
    )
    garbage_seconds: float = Field(
        3600.0, ge=1.0, description="Stored files that no table names are deleted at this age, in seconds."
    )
    idempotency_seconds: float = Field(
        24 * 3600.0, ge=1.0, description="How long the response to an Idempotency-Key is kept, in seconds."
    )
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Largest request body in bytes, except for uploads and results."
    )
    max_result_bytes: int = Field(512 * 2**20, ge=1024, description="Largest result of one task, in bytes.")
    max_upload_bytes: int = Field(64 * 2**30, ge=1024, description="Largest upload, in bytes as sent.")
    max_row_bytes: int = Field(2**20, ge=1024, description="Largest row of an upload, in bytes.")
    max_tasks: int = Field(1_000_000, ge=1, description="Largest number of tasks of one job.")

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'premem.db'}"

    @property
    def store(self) -> str | Path:
        return self.store_url or self.data_dir / "artifacts"

    @property
    def hosts(self) -> list[str]:
        """The host names that a Host header may have, without the port."""
        loopback = ["localhost", "127.0.0.1", "[::1]"]
        name = f"[{self.host}]" if ":" in self.host else self.host
        return self.allowed_hosts or [*loopback, *({name} - {*loopback, "0.0.0.0", "[::]"})]  # noqa: S104

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
