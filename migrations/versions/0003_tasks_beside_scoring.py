"""Jobs that regrade and acquire, tasks under perturbed prompts, and tasks that start from another task's result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEFORE, SINCE = "uq_tasks_job_checkpoint_kind_start", "uq_tasks_job_checkpoint_kind_variant_start"


def upgrade() -> None:
    # Not in batches: see 0002.
    op.add_column("jobs", sa.Column("kind", sa.String(length=16), nullable=False, server_default="score"))
    op.add_column("jobs", sa.Column("parent", sa.String(length=40), nullable=True))
    # Nothing refers to tasks, so SQLite may make the table anew.
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("variant", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("source", sa.Text(), nullable=True))
        batch_op.drop_constraint(BEFORE, type_="unique")
        batch_op.create_unique_constraint(SINCE, ["job", "checkpoint", "kind", "variant", "start"])


def downgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_constraint(SINCE, type_="unique")
        batch_op.create_unique_constraint(BEFORE, ["job", "checkpoint", "kind", "start"])
        batch_op.drop_column("source")
        batch_op.drop_column("variant")
    op.drop_column("jobs", "parent")
    op.drop_column("jobs", "kind")
