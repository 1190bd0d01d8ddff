"""Everything about the service that can be set: by environment (PREMEM_…) or by the flags of `python -m premem_service`."""

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
        Path("premem-data"), description="Folder of the SQLite database and of the artifacts, where no URLs are set."
    )
    database_url: str = Field(
        "", description="sqlite:///FILE or postgresql://USER@HOST/NAME; premem.db in the data folder where empty."
    )
    store_url: str = Field(
        "", description="A folder, or s3://BUCKET/PREFIX; the folder artifacts in the data folder where empty."
    )
    host: str = Field("127.0.0.1", description="Address to listen on; any but a loopback address asks for a key.")
    port: int = Field(8321, ge=0, le=65535, description="0 picks a free port.")
    api_key: SecretStr | None = Field(
        None,
        description="A key that clients and workers must show; more are made by `python -m premem_service keys add`.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names under which clients may reach the service (the Host header); the loopback names and the host where empty.",
    )
    checkpoint_roots: Roots = Field(
        default_factory=list,
        description="Folders under which the service may read a checkpoint's tokenizer, to show the tokens of a preview; none where empty.",
    )
    lease_seconds: float = Field(
        60.0, ge=0.1, le=86_400, description="How long a task is a worker's after its last heartbeat."
    )
    retry_seconds: float = Field(1.0, ge=0.05, le=3600, description="When a worker that got no task asks again.")
    max_failures: int = Field(3, ge=1, description="A task fails for good after so many reported errors.")
    max_losses: int = Field(5, ge=1, description="A task fails for good after so many leases that ran out unheard.")
    round_seconds: float = Field(1.0, ge=0.05, le=3600, description="Between two looks at what nobody else would end.")
    garbage_seconds: float = Field(
        3600.0, ge=1.0, description="Age from which an artifact that no row names is deleted."
    )
    idempotency_seconds: float = Field(
        24 * 3600.0, ge=1.0, description="How long the answer to an Idempotency-Key is kept."
    )
    max_body_bytes: int = Field(
        8 * 2**20, ge=1024, description="Longest request body, in bytes, of every route but uploads and results."
    )
    max_result_bytes: int = Field(512 * 2**20, ge=1024, description="Longest result of one task, in bytes.")
    max_upload_bytes: int = Field(64 * 2**30, ge=1024, description="Longest upload, in bytes as sent.")
    max_row_bytes: int = Field(2**20, ge=1024, description="Longest row of an upload, in bytes.")
    max_tasks: int = Field(1_000_000, ge=1, description="Most tasks of one job.")

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'premem.db'}"

    @property
    def store(self) -> str | Path:
        return self.store_url or self.data_dir / "artifacts"

    @property
    def hosts(self) -> list[str]:
        """What a Host header may say, without its port."""
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
