"""Several gateways: who they are, which of them runs a session, what they ask of each other, and one feed for all.

Everything is added, with defaults of the server: a gateway that knows revision 0006 writes its rows as before.
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
is_additive = True

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts by itself in an INTEGER only


def upgrade() -> None:
    op.create_table(
        "gateways",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(300), nullable=False),
        sa.Column("peer_host", sa.String(300)),
        sa.Column("peer_port", sa.Integer),
        sa.Column("certificate", sa.Text),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_draining", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_gateways"),
    )
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("gateway", sa.String(40)))
        sessions.add_column(sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"))
        sessions.add_column(sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
        sessions.add_column(sa.Column("live", sa.JSON))
    op.create_table(
        "wishes",
        sa.Column("number", NUMBER, nullable=False, autoincrement=True),
        sa.Column("session", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("by", sa.JSON),
        sa.Column("text", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_wishes"),
    )
    op.create_index("ix_wishes_session", "wishes", ["session"])
    op.create_table(
        "claims",
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("key", sa.String(1000), nullable=False),
        sa.Column("gateway", sa.String(40)),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("kind", "key", name="pk_claims"),
    )
    op.create_table(
        "feed",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(1000), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_feed"),
    )
    op.create_index("ix_feed_at", "feed", ["at"])
    counter = op.create_table(
        "feed_counter",
        sa.Column("epoch", sa.String(40), nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("epoch", name="pk_feed_counter"),
    )
    op.bulk_insert(counter, [{"epoch": secrets.token_hex(4), "last": 0}])


def downgrade() -> None:
    op.drop_table("feed_counter")
    op.drop_table("feed")
    op.drop_table("claims")
    op.drop_table("wishes")
    with op.batch_alter_table("sessions") as sessions:
        for column in ("live", "version", "fence", "gateway"):
            sessions.drop_column(column)
    op.drop_table("gateways")
