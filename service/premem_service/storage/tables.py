"""The tables. SQLite and PostgreSQL hold the same ones; migrations/ makes them.

Times are seconds since 1970 by the database's clock, never by a caller's: leases of many machines are compared.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

PLAN = "plan"
"""Kind of the tasks that the service keeps for itself: one per shard of a planned job, done when nothing is left to draw."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("columns", JSON, nullable=False),
    Column("grader", JSON, nullable=False),
    Column("grader_reason", String(300)),  # where the upload named no grader
    Column("ungradable", BigInteger, nullable=False),
    Column("ungradable_lines", JSON, nullable=False),
    Column("chats", BigInteger, nullable=False),
    Column("repaired", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

dataset_shards = Table(
    "dataset_shards",
    metadata,
    Column("dataset", ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("stop", BigInteger, nullable=False),
    Column("artifact", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("number", BigInteger, nullable=False),  # order of creation, for the queue and for cursors
    Column("name", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("open", Boolean, nullable=False),
    Column("dataset", ForeignKey("datasets.id"), nullable=False),
    Column("test_dataset", ForeignKey("datasets.id")),
    Column("request", JSON, nullable=False),  # a JobRequest, its grader filled in, without its checkpoints
    Column("memorized_below", Double),
    Column("threshold_basis", String(16), nullable=False),
    Column("threshold_source", Text, nullable=False),
    Column("tokenizer", String(64)),
    Column("produced_by", JSON),
    Column("setting", JSON),  # what a calibration would have to share, but for the model, which the results tell
    Column("calibration", String(40)),  # its id, where the threshold was taken from one; it may be deleted since
    Column("kind", String(16), nullable=False, server_default="score"),  # score, regrade, acquire
    Column("parent", String(40)),  # the job that is regraded, or that is acquired for
    Column("recorded", Text),  # artifact of a run that others recorded: it has no tasks
    Column("scores_artifact", Text),
    Column("report", JSON),
    Column("warnings", JSON, nullable=False),
    Column("error", Text),  # why the job as a whole failed
    Column("finalizing_until", Double),
    Column("finalizing_attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("number"),
    Index(None, "state"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),  # from 0, in the order of training
    Column("name", String(200), nullable=False),
    Column("path", Text, nullable=False),
    Column("weights", String(64)),  # their fingerprint, once a result told it
    Column("error", Text),
    UniqueConstraint("job", "name"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("job_number", BigInteger, nullable=False),
    Column("checkpoint", Integer, nullable=False),
    Column("checkpoint_path", Text, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("variant", Integer, nullable=False, server_default="0"),  # of perturbed: 0 is the baseline; see JobRequest
    Column("turn", Integer, nullable=False, server_default="0"),  # the order of a job's tasks, so that few swaps do
    Column("plan", JSON(none_as_null=True)),  # a DrawPlan, and what its answers cost that were there before
    Column("source", Text),  # artifact of the result that is regraded; no engine is needed then
    Column("partial", Text),  # artifact of what is known of the rows already; only the rest is computed
    Column("dataset", ForeignKey("datasets.id"), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("stop", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # counts leases; the one that is out is the fencing token
    Column("failures", Integer, nullable=False),  # attempts that reported an error
    Column("losses", Integer, nullable=False),  # attempts whose lease ran out unheard
    Column("worker", String(200)),
    Column("leased_at", Double),
    Column("expires_at", Double),
    Column("finished_at", Double),
    Column("error", Text),
    Column("artifact", Text),
    Column("skipped", BigInteger, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger),  # this and what follows: as its result tells, see premem.payloads.effort
    Column("cached_tokens", BigInteger),
    Column("engine_seconds", Double),
    Column("cache_bytes", BigInteger),
    UniqueConstraint("job", "checkpoint", "kind", "variant", "start"),
    Index("ix_tasks_queue", "state", "job_number", "turn", "kind", "start"),
    Index("ix_tasks_shard", "job", "start"),
    Index("ix_tasks_expiry", "state", "expires_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("engine", String(200)),
    Column("device", String(200)),  # null until its engine has loaded a checkpoint
    Column("seen_at", Double, nullable=False),  # the last time that it asked for a task, within a few seconds
)

tags = Table(
    "tags",
    metadata,
    # What has a tag is asked for most, so rows come after it.
    Column("dataset", ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(50), primary_key=True),
    Column("row", BigInteger, primary_key=True, autoincrement=False),
    Index("ix_tags_dataset_row", "dataset", "row"),
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("number", BigInteger, nullable=False),  # order of creation, for cursors
    Column("name", String(100), nullable=False),
    Column("setting", JSON, nullable=False),  # a premem.forecasting.forecast.Setting
    Column("rule", String(40), nullable=False),
    Column("memorized_below", Double, nullable=False),
    Column("jobs", JSON, nullable=False),  # their ids
    Column("result", JSON, nullable=False),  # the rest of a CalibrationReply
    Column("created_at", Double, nullable=False),
    UniqueConstraint("name"),
    UniqueConstraint("number"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("scope", String(300), primary_key=True),  # who asked for what: key id, path and query
    Column("request_sha256", String(64)),  # null while the first request is under way
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", Text),
    Column("created_at", Double, nullable=False),
)
