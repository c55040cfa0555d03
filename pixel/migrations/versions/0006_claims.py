"""Which event ids and transactions have been counted, for machines that share this database."""

import sqlalchemy as sa
from alembic import op

revision = "0006_claims"
down_revision = "0005_leases"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "claims",
        sa.Column("key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_claims")),
    )
    op.create_index("ix_claims_at", "claims", ["at"], postgresql_where=sa.text("at < 4611686018427387904"))


def downgrade():
    op.drop_table("claims")
