"""Calibrations, what a job's own holds for, and recorded runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("setting", sa.JSON(), nullable=False),
        sa.Column("rule", sa.String(length=40), nullable=False),
        sa.Column("memorized_below", sa.Double(), nullable=False),
        sa.Column("jobs", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
        sa.UniqueConstraint("name", name=op.f("uq_calibrations_name")),
        sa.UniqueConstraint("number", name=op.f("uq_calibrations_number")),
    )
    # Not in batches: SQLite would make the table anew, and dropping the old one would take tasks and checkpoints along.
    op.add_column("jobs", sa.Column("setting", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("calibration", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("recorded", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "recorded")
    op.drop_column("jobs", "calibration")
    op.drop_column("jobs", "setting")
    op.drop_table("calibrations")
