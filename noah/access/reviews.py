"""What clusters say that a person may do in their namespaces: SubjectAccessReviews, remembered for half a minute.

A cluster that does not answer has said nothing: that is never taken for a yes, and never remembered.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from noah.core.session.principal import Principal
from noah.core.session.rights import AUTHENTICATED, NEEDED, Right, known_as
from noah.errors import NoahError

log = logging.getLogger(__name__)

PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
KEPT_S: Final = 30.0  # so long a right that was taken away may still be believed
ANSWERS_WITHIN_S: Final = 5.0  # a developer waits for it
AT_ONCE: Final = 20  # reviews of one cluster; its requests have 50 connections
MOST_KEPT: Final = 50_000  # answers; at some 300 bytes each
EVERYWHERE: Final = ""  # a review of no namespace in particular: what holds in all of them

Post = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]  # a path and a body; the answer's JSON


class ClusterReviews:
    """Asks one cluster about the rights of people that it may know."""

    def __init__(
        self, name: str, post: Post, *, user_prefix: str = "", group_prefix: str = "", kept_s: float = KEPT_S
    ) -> None:
        """*user_prefix*, *group_prefix*: what the cluster puts before the names of those who log in by OIDC."""
        self.name = name
        self._post = post
        self._user_prefix = user_prefix
        self._group_prefix = group_prefix
        self._kept_s = kept_s
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._answers: dict[tuple[object, ...], tuple[float, bool]] = {}  # by the loop's clock, until when
        self._asking: dict[tuple[object, ...], asyncio.Task[bool | None]] = {}

    def user_of(self, principal: Principal) -> tuple[str, tuple[str, ...]] | None:
        """Return the name and all groups by which the cluster knows *principal*; None if it cannot know it."""
        known = known_as(principal, cluster=self.name, user_prefix=self._user_prefix, group_prefix=self._group_prefix)
        return None if known is None else (known.user, (*known.groups, AUTHENTICATED))

    async def may(self, principal: Principal, right: Right, namespace: str) -> bool | None:
        """Return the cluster's answer, None if there is none. Asks about all namespaces at once first."""
        user = self.user_of(principal)
        if user is None or right not in NEEDED:
            return False
        everywhere = await self._all_of(user, right, EVERYWHERE)
        return everywhere if everywhere in (True, None) else await self._all_of(user, right, namespace)

    def remembered(self, user: tuple[str, tuple[str, ...]], right: Right, namespace: str) -> tuple[bool | None, float]:
        """Return what may() would return without asking, and until when by the loop's clock.

        None if it has to ask, or if there is no answer.
        """
        everywhere, until = self._kept(user, right, EVERYWHERE)
        if everywhere is not False:
            return everywhere, until
        answer, then = self._kept(user, right, namespace)
        return answer, min(until, then)

    def _kept(self, user: tuple[str, tuple[str, ...]], right: Right, namespace: str) -> tuple[bool | None, float]:
        now, found, soonest = asyncio.get_running_loop().time(), True, math.inf
        for what in NEEDED.get(right, ()):
            until, answer = self._answers.get((user, what, namespace), (0.0, False))
            if until <= now:
                return None, now
            found, soonest = found and answer, min(soonest, until)
        return found and right in NEEDED, soonest

    async def _all_of(self, user: tuple[str, tuple[str, ...]], right: Right, namespace: str) -> bool | None:
        answers = await asyncio.gather(*(self._one(user, what, namespace) for what in NEEDED[right]))
        return False if False in answers else None if None in answers else True

    async def _one(
        self, user: tuple[str, tuple[str, ...]], what: tuple[str, str, str, str], namespace: str
    ) -> bool | None:
        key = (user, what, namespace)
        loop = asyncio.get_running_loop()
        until, answer = self._answers.get(key, (0.0, False))
        if loop.time() < until:
            return answer
        if key not in self._asking:
            task = self._asking[key] = loop.create_task(self._ask(user, what, namespace), name=f"review in {self.name}")
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        found = await asyncio.shield(self._asking[key])
        if found is not None:
            self._remember(key, loop.time() + self._kept_s, found)
        return found

    async def _ask(
        self, user: tuple[str, tuple[str, ...]], what: tuple[str, str, str, str], namespace: str
    ) -> bool | None:
        verb, group, resource, subresource = what
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
        if namespace:
            attributes["namespace"] = namespace
        name, groups = user
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": name, "groups": list(groups), "resourceAttributes": attributes},
        }
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S), self._limit:
                status = (await self._post(PATH, review)).get("status")
        except TimeoutError:
            log.warning("cluster %s does not say who may what: nothing came within %g s", self.name, ANSWERS_WITHIN_S)
            return None
        except NoahError as e:
            log.warning("cluster %s does not say who may what: %s", self.name, e.sentence)
            return None
        return isinstance(status, dict) and status.get("allowed") is True

    def _remember(self, key: tuple[object, ...], until: float, answer: bool) -> None:
        if len(self._answers) >= MOST_KEPT:
            now = asyncio.get_running_loop().time()
            self._answers = {one: kept for one, kept in self._answers.items() if kept[0] > now}
            while len(self._answers) >= MOST_KEPT:
                del self._answers[next(iter(self._answers))]
        self._answers[key] = (until, answer)
