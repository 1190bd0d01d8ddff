"""How many rows of a data set are chats of several messages, and how many backslashes of LaTeX were put back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("chats", "repaired"):
        op.add_column("datasets", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("repaired")
        batch_op.drop_column("chats")
