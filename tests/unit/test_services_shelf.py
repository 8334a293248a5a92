"""Which template is the one that a request made whose server has died."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner_provisioner.domain.markets import PodTemplate, TemplateSpec
from runner_provisioner.services.shelf import _holds

ASKED = TemplateSpec(name="mine", image="x/y", command="run", ports=("22/tcp", "80/tcp"))


@pytest.mark.parametrize(
    ("name", "held", "same"),
    [
        pytest.param("mine", ASKED, True, id="all of it"),
        pytest.param("mine", replace(ASKED, image="x/y:latest", ports=("80/tcp", "22/tcp")), True, id="other words"),
        pytest.param("mine", None, True, id="its provider does not tell"),
        pytest.param("other", ASKED, False, id="another name"),
        pytest.param("mine", replace(ASKED, image="x/z"), False, id="another image"),
        pytest.param("mine", replace(ASKED, command=None), False, id="another command"),
        pytest.param("mine", replace(ASKED, ports=("22/tcp",)), False, id="other ports"),
    ],
)
def test_a_template_is_known_by_all_that_it_holds(name: str, held: TemplateSpec | None, *, same: bool) -> None:
    """Names are the users' own, and may come twice."""
    made = PodTemplate(provider="one", id="t", name=name, image="x/y", status="CREATED", usable=True, spec=held)
    assert _holds(made, ASKED) is same
