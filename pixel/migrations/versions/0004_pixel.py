"""Hosts that may send for a website, and the salts of daily visitor ids."""

import sqlalchemy as sa
from alembic import op

revision = "0004_pixel"
down_revision = "0003_mail"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("websites", sa.Column("hosts", sa.JSON(), nullable=False, server_default="[]"))
    op.create_table(
        "salts",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_salts")),
    )


def downgrade():
    op.drop_table("salts")
    op.drop_column("websites", "hosts")
