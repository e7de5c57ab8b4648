"""Many requests at the same moment: more than there are connections to PostgreSQL."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.service.conftest import TenantClient

AT_ONCE = 120


async def _statuses(url: str, key: str, paths: list[str]) -> list[int]:
    limits = httpx.Limits(max_connections=len(paths))
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, limits=limits, timeout=60
    ) as client:
        answers = await asyncio.gather(*(client.get(path) for path in paths))
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize("path", ["/v1/regret", "/v1/users/user-{}/weights"])
def test_more_requests_than_connections_wait_for_each_other(new_tenant: Callable[[], TenantClient], path: str) -> None:
    tenant = new_tenant()
    key = tenant.key
    paths = [path.format(number) for number in range(AT_ONCE)]
    statuses = asyncio.run(_statuses(str(tenant.http.base_url), key, paths))
    assert set(statuses) == {200}
