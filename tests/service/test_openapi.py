"""What the OpenAPI document says is what the server does, whatever it is sent: schemathesis over every operation."""

import httpx
import hypothesis
import hypothesis.errors
import pytest
import schemathesis
from schemathesis import Case, GenerationMode, checks

from learner.store.keys import SCOPES, create_key
from tests.service.conftest import Stack, TenantClient

EXAMPLES = 12
ENDLESS = "/v1/dashboard/events"

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def headers(stack: Stack, tenant: TenantClient) -> dict[str, str]:
    """An operator's key of all scopes that acts for a tenant: nothing is refused for want of rights."""
    with stack.services.database.session() as session:
        _, key = create_key(session, None, "schemathesis", SCOPES)
    return {"Authorization": f"Bearer {key}", "X-Cage-Tenant": tenant.tenant_id}


# Twelve requests to each of dozens of operations, some of which decode an answer.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_operation_keeps_its_word(stack: Stack, headers: dict[str, str], mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{stack.url}/openapi.json").exclude(path=ENDLESS)
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 10
    for operation in operations:

        @hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def keeps_its_word(case: Case) -> None:
            if isinstance(case.body, dict) and "max_tokens" in case.body:
                case.body["max_tokens"] = 4
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=60)

        try:
            keeps_its_word()
        except hypothesis.errors.Unsatisfiable:
            # An operation that takes nothing cannot be asked wrongly.
            assert mode is GenerationMode.NEGATIVE


def test_schemas_are_named_for_what_they_are(stack: Stack) -> None:
    """Two of one name would be told apart by the modules that they lie in, which are nobody's business."""
    schemas = httpx.get(f"{stack.url}/openapi.json").json()["components"]["schemas"]
    assert [name for name in schemas if "__" in name] == []
