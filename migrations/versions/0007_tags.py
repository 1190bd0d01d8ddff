"""Tags: what people say of examples, by data set and row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tags",
        sa.Column("dataset", sa.String(length=40), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("tag", sa.String(length=50), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["datasets.id"], name=op.f("fk_tags_dataset_datasets"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset", "tag", "row", name=op.f("pk_tags")),
    )
    with op.batch_alter_table("tags", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tags_dataset_row"), ["dataset", "row"], unique=False)


def downgrade() -> None:
    op.drop_table("tags")
