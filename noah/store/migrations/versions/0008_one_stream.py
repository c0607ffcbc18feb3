"""One stream for all gateways: the sources of events, what followed releases publish; who can serve this schema."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
is_additive = True


def upgrade() -> None:
    with op.batch_alter_table("feed") as feed:
        feed.add_column(sa.Column("source", sa.String(60)))
    op.create_table(
        "release_chunks",
        sa.Column("release", sa.String(40), nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("run", sa.String(20), nullable=False),
        sa.Column("is_over", sa.Boolean, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("events", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("release", "last", name="pk_release_chunks"),
    )
    op.create_table(
        "served_from",
        sa.Column("revision", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_served_from"),
    )


def downgrade() -> None:
    op.drop_table("served_from")
    op.drop_table("release_chunks")
    with op.batch_alter_table("feed") as feed:
        feed.drop_column("source")
