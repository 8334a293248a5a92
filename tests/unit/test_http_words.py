"""Refusals speak of the fields of the request, not of options of a command line that the caller does not have."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from support.fakes import REQUEST, offer

import runner_provisioner
from runner_provisioner._redaction import Redactor
from runner_provisioner.controller import cloud, machines, pods_create
from runner_provisioner.controller.access import NO_KEY
from runner_provisioner.controller.failures import told
from runner_provisioner.controller.words import FIELDS, in_words_of
from runner_provisioner.domain.kill_layers import without_kill_time
from runner_provisioner.domain.ladder import Ladder, Refusal, nothing_rented
from runner_provisioner.domain.served import Contract
from runner_provisioner.errors import BudgetExceeded, InvalidRequest, NotFound, OfferUnfit, RunnerProvisionerError

BODIES: dict[Contract, type[BaseModel]] = {
    Contract.CLOUD: cloud.PodCreate,
    Contract.MACHINES: machines.MachineRent,
    Contract.PODS: pods_create.PodCreate,
}
DEAR = Refusal(offer=offer("A", price="9"), error=BudgetExceeded("9 USD/h is above the max price 1"))
UNFIT = Refusal(offer=offer("A"), error=OfferUnfit("too small", option="--min-memory 64"))
SPOT = Refusal(
    offer=offer("A"),
    error=OfferUnfit("it is interruptible, and --interruptible is never", option="--interruptible never"),
)
UNENDED = without_kill_time(Ladder(rungs=(offer("A"),), refusals=()), {"fake"}, by_hand=True).refusals
CASES: dict[str, tuple[RunnerProvisionerError, tuple[str, str, str]]] = {
    "price": (
        nothing_rented(REQUEST, [DEAR]),
        ("raise max_price", "raise max_price", "raise pod.maxPrice"),
    ),
    "size": (
        nothing_rented(REQUEST, [UNFIT]),
        (
            "loosen min_memory_in_gb 64, take another gpu_type_id, or try again later",
            "loosen min memory 64, take another executor_id, or try again later",
            "loosen pod.memory 64, take another pod.gpuType, or try again later",
        ),
    ),
    "only interruptible ones": (
        nothing_rented(REQUEST, [SPOT]),
        (
            "right now: take another gpu_type_id, or try again later",
            "right now: take another executor_id, or try again later",
            "right now: take another pod.gpuType, or try again later",
        ),
    ),
    "size, or only interruptible ones": (
        nothing_rented(replace(REQUEST, min_vcpus=64), [SPOT]),
        (
            "right now: loosen min_vcpu_count 64, take",
            "right now: loosen min vcpus 64, take",
            "right now: loosen pod.vcpus 64, take",
        ),
    ),
    "kill time": (
        nothing_rented(REQUEST, UNENDED),
        ("give provider fake if", "give executor_id fake if", "give provider.type fake if"),
    ),
    "budget": (
        BudgetExceeded(
            "it is over: shorten --lifetime, give start a --max-cost, or raise --budget-day "
            "(RUNNER_PROVISIONER_BUDGET_DAY)"
        ),
        (
            "shorten lifetime_hours, or raise RUNNER_PROVISIONER_BUDGET_DAY",
            "shorten lifetime_hours, or raise RUNNER_PROVISIONER_BUDGET_DAY",
            "shorten pod.lifetimeHours, or raise RUNNER_PROVISIONER_BUDGET_DAY",
        ),
    ),
    "unknown pod": (NotFound("no pod 'x': 'pods list' shows those that exist"), ("the list of pods shows",) * 3),
    "an option that no contract has": (InvalidRequest("lower --min-driver"), ("lower min driver",) * 3),
}


@pytest.mark.parametrize(("error", "wanted"), CASES.values(), ids=CASES)
def test_a_refusal_names_the_fields_of_its_contract(error: RunnerProvisionerError, wanted: tuple[str, ...]) -> None:
    """And what a caller can do about it."""
    for contract, words in zip((Contract.CLOUD, Contract.MACHINES, Contract.PODS), wanted, strict=True):
        message = told(error, contract).message
        assert words in message
        assert "--" not in message


def test_a_path_of_the_service_itself_names_no_option_either() -> None:
    """And what is no option stays as it is."""
    assert told(BudgetExceeded("raise --max-price or --budget-day")).message == (
        "raise max price or RUNNER_PROVISIONER_BUDGET_DAY"
    )
    assert in_words_of(Contract.CLOUD, "pod rp--gpu -- 3 -- is gone") == "pod rp--gpu -- 3 -- is gone"


@pytest.mark.parametrize("contract", Contract, ids=str)
def test_every_field_is_one_of_the_contracts_body(contract: Contract) -> None:
    """By the name under which it is sent."""
    for name in {one for value in FIELDS[contract].values() for one in value.split(" or ")}:
        properties: Any = None
        model: type[BaseModel] = BODIES[contract]
        for part in name.split("."):
            properties = model.model_json_schema()["properties"]
            assert part in properties, name
            found = [field for key, field in model.model_fields.items() if part in {key, field.alias}]
            kinds = [found[0].annotation, *getattr(found[0].annotation, "__args__", ())]
            model = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), model)


COMMAND = re.compile(r"'(?:pods [a-z]+|gpu-types|logs|offers|templates)'")


def test_no_advice_of_the_markets_keeps_a_command() -> None:
    """Who speaks HTTP has routes."""
    root = Path(runner_provisioner.__file__).parent
    said = [
        line
        for path in (*(root / "providers").rglob("*.py"), *(root / "services").glob("ma*.py"))
        for line in path.read_text("utf-8").splitlines()
        if COMMAND.search(line) and '"' in line
    ]
    assert len(said) >= 5
    for contract in Contract:
        assert [line for line in said if COMMAND.search(in_words_of(contract, line))] == []


def test_what_is_said_of_a_missing_key_survives_its_redaction() -> None:
    """An example of a key would be taken for one."""
    assert Redactor().redact(NO_KEY) == NO_KEY


def test_no_advice_of_the_markets_and_the_rules_keeps_an_option() -> None:
    """Whatever their sources say."""
    root = Path(runner_provisioner.__file__).parent
    said = [
        line
        for folder in ("domain", "services", "providers")
        for path in (root / folder).rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
    ]
    options = [line for line in said if re.search(r"--[a-z]", line)]
    assert len(options) > 50
    for contract in (None, *Contract):
        assert [line for line in options if re.search(r"(?<![\w-])--[a-z]", in_words_of(contract, line))] == []
