"""Sessions, and the ports that people keep."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_LIVE = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("target", sa.String(1000), nullable=False),
        sa.Column("workload", sa.String(300)),
        sa.Column("app", sa.String(300), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("allow", sa.JSON, nullable=False),
        sa.Column("allow_exit", sa.Boolean, nullable=False),
        sa.Column("pause_budget", sa.Float),
        sa.Column("end_reason", sa.String(20)),
        sa.Column("end_detail", sa.String(2000)),
        sa.Column("ended_by", sa.String(200)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("audit", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    for name, column in (("ux_sessions_live_target", "target"), ("ux_sessions_live_port", "port")):
        op.create_index(name, "sessions", [column], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("ix_sessions_created_at_id", "sessions", ["created_at", "id"])
    op.create_table(
        "debug_ports",
        sa.Column("port", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("app", sa.String(300), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("port", name="pk_debug_ports"),
    )


def downgrade() -> None:
    op.drop_table("debug_ports")
    op.drop_table("sessions")
