"""What the engine did for a task: tokens of prompts, those found in its cache, and seconds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ADDED = {"prompt_tokens": sa.BigInteger(), "cached_tokens": sa.BigInteger(), "engine_seconds": sa.Double()}


def upgrade() -> None:
    for name, kind in ADDED.items():
        op.add_column("tasks", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        for name in reversed(ADDED):
            batch_op.drop_column(name)
