"""What the configuration lists and how current that is; and the word of a person for a removal that nobody believes."""

from collections.abc import Collection, Sequence
from typing import Protocol

from aiohttp import web
from typing_extensions import TypedDict

from noah.core.session.rights import Right
from noah.core.session.trail import TrailCode
from noah.errors import Conflict
from noah.web.api.route import Call, Reply, Routes
from noah.web.permission import demand, record
from noah.web.wire import Nothing

ROUTES = Routes()
FILE = "configuration file"  # in the list, before its parts
MOST_NAMED = 100  # of those that would be gone


class PartView(Protocol):
    """One list of the configuration."""

    @property
    def what(self) -> str: ...

    @property
    def have(self) -> Sequence[object]: ...

    @property
    def trouble(self) -> str | None: ...

    @property
    def refused(self) -> Collection[str]: ...

    @property
    def fingerprint(self) -> str: ...


class InventoryView(Protocol):
    @property
    def file_trouble(self) -> str | None: ...

    @property
    def parts(self) -> Sequence[PartView]: ...

    async def confirm(self) -> None: ...


INVENTORY = web.AppKey("inventory", InventoryView)


class PartJson(TypedDict):
    part: str
    count: int
    current: bool
    message: str | None
    gone: int  # how many would be gone, if somebody confirmed that
    removed: list[str]  # some of their names


class InventoryJson(TypedDict):
    items: list[PartJson]


@ROUTES.get("/api/v1/inventory", right=Right.OPERATE, summary="What the configuration lists, and how current that is.")
async def show_inventory(call: Call[Nothing, Nothing]) -> Reply[InventoryJson]:
    await demand(call.request, Right.OPERATE)
    return Reply(_json(call.request.app[INVENTORY]))


@ROUTES.post(
    "/api/v1/inventory/confirm",
    right=Right.OPERATE,
    summary="Confirm that those are gone of which more than half were gone at once, and no others.",
    errors=(Conflict,),
)
async def confirm_inventory(call: Call[Nothing, Nothing]) -> Reply[InventoryJson]:
    await demand(call.request, Right.OPERATE)
    inventory = call.request.app[INVENTORY]
    refused = [(part.what, sorted(part.refused)) for part in inventory.parts if part.refused]
    if not refused:
        raise Conflict("Nothing waits to be confirmed: `noah inventory` shows what there is.")
    said = "; ".join(f"{len(names)} of the {what}" for what, names in refused)
    more = {what: names[:MOST_NAMED] for what, names in refused}
    more["named"] = [part.fingerprint for part in inventory.parts if part.refused]  # for the other gateways
    record(call.request, TrailCode.REMOVAL_CONFIRMED, sentence=f"They are meant to be gone: {said}.", more=more)
    await inventory.confirm()
    return Reply(_json(inventory))


def _json(inventory: InventoryView) -> InventoryJson:
    why = inventory.file_trouble
    file = PartJson(part=FILE, count=1, current=why is None, message=why, gone=0, removed=[])
    return {"items": [file, *map(_part, inventory.parts)]}


def _part(part: PartView) -> PartJson:
    return {
        "part": part.what,
        "count": len(part.have),
        "current": part.trouble is None,
        "message": part.trouble,
        "gone": len(part.refused),
        "removed": sorted(part.refused)[:MOST_NAMED],
    }
