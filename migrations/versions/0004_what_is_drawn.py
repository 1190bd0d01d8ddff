"""Tasks that draw what a plan asks for, in an order that takes few swaps, and that go on from what is known already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("turn", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("plan", sa.JSON(), nullable=True))
    op.add_column("tasks", sa.Column("partial", sa.Text(), nullable=True))
    op.execute("UPDATE tasks SET turn = checkpoint")
    op.drop_index("ix_tasks_queue", table_name="tasks")
    op.create_index("ix_tasks_queue", "tasks", ["state", "job_number", "turn", "kind", "start"])
    op.create_index("ix_tasks_shard", "tasks", ["job", "start"])


def downgrade() -> None:
    op.drop_index("ix_tasks_shard", table_name="tasks")
    op.drop_index("ix_tasks_queue", table_name="tasks")
    op.create_index("ix_tasks_queue", "tasks", ["state", "job_number", "checkpoint", "kind", "start"])
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.drop_column("partial")
        batch_op.drop_column("plan")
        batch_op.drop_column("turn")
