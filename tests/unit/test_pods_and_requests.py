"""Tags in a pod's environment, and what a request refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from runner_provisioner.domain.bids import Bid
from runner_provisioner.domain.offers import Interruptible, Offer
from runner_provisioner.domain.pods import Pod, PodClass, PodId, PodState, PodTags
from runner_provisioner.domain.request import DEFAULT_GPUS, Gate, HowRegistered, StartRequest, options
from runner_provisioner.errors import InvalidRequest

FULL = PodTags(
    owner="0123abcd",
    cls=PodClass.RUNNER,
    repository="o/r",
    label="rp-abc",
    nonce="n",
    creator="c",
    expires_at=datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
    host_key="ssh-ed25519 AAAA",
)


@pytest.mark.parametrize("tags", [FULL, PodTags(owner="x", cls=PodClass.MANUAL)], ids=["full", "bare"])
def test_tags_read_back_from_an_environment(tags: PodTags) -> None:
    """Nothing is lost, nothing is invented."""
    assert PodTags.from_env({**tags.to_env(), "OTHER": "1"}) == tags


@pytest.mark.parametrize(
    "env",
    [{}, {"RP_OWNER": "x"}, {"RP_OWNER": "x", "RP_CLASS": "else"}, {"RP_CLASS": "manual"}],
    ids=["none", "no-class", "strange-class", "no-owner"],
)
def test_a_foreign_environment_has_no_tags(env: dict[str, str]) -> None:
    """It is not ours."""
    assert PodTags.from_env(env) is None


@pytest.mark.parametrize(("text", "there"), [("soon", False), ("", False), ("2026-11-01T12:00:00", True)])
def test_an_expiry_that_cannot_be_read_is_none(text: str, there: bool) -> None:  # noqa: FBT001 - a table
    """A time without a zone is UTC."""
    tags = PodTags.from_env({"RP_OWNER": "x", "RP_CLASS": "runner", "RP_EXPIRES": text})
    assert tags is not None
    assert (tags.expires_at == datetime(2026, 11, 1, 12, 0, tzinfo=UTC)) is there


@pytest.mark.parametrize("state", list(PodState), ids=str)
def test_only_a_pod_that_starts_or_runs_is_alive(state: PodState) -> None:
    """A stopped one serves nobody and bills its disk."""
    pod = Pod(provider="runpod", id=PodId("p"), name="n", state=state)
    assert pod.alive is (state in {PodState.STARTING, PodState.RUNNING})


@pytest.mark.parametrize(
    "wrong",
    [
        {"label": ("a,b",)},
        {"label": ("",)},
        {"label": (" a",)},
        {"label": ("a\n",)},
    ],
    ids=str,
)
def test_a_request_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    """In one line."""
    with pytest.raises(InvalidRequest) as caught:
        StartRequest(**wrong)  # type: ignore[arg-type] # fields of the request
    assert "\n" not in str(caught.value).replace("a\n", "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"start_timeout": timedelta(minutes=51)}, "--start-timeout 51m"),
        ({"start_timeout": timedelta()}, "--start-timeout 0s"),
        ({"lifetime": timedelta(minutes=20)}, "--lifetime 20m"),
        ({"idle": timedelta()}, "--idle 0s"),
        ({"idle": timedelta(hours=6, minutes=15)}, "--idle 6h15m"),
        ({"boot_timeout": timedelta()}, "--boot-timeout 0s"),
        ({"disk": 0}, "--disk 0"),
        ({"volume": -1}, "--volume -1"),
        ({"gpu_count": 0}, "--gpu-count 0"),
        ({"min_vcpus": 0}, "--min-vcpus 0"),
        ({"min_vram": 0}, "--min-vram 0"),
        ({"min_download": -1}, "--min-download -1"),
        ({"max_cost": Decimal(0)}, "--max-cost 0"),
        ({"max_cost": Decimal("1e-30")}, "--max-cost 1E-30"),
        ({"max_price": Decimal("1e400")}, "--max-price 1E+400"),
        ({"budget_month": Decimal("NaN")}, "--budget-month NaN"),
        ({"budget_day": Decimal(-1)}, "--budget-day -1"),
        ({"gate": Gate.OFF, "min_driver": "550.54"}, "--min-driver 550.54"),
        ({"interruptible": Interruptible.NEVER, "bid": Bid(Decimal("0.2"))}, "--bid 0.2"),
        ({"region": ("Europe",)}, "--region Europe"),
        ({"region": ("US", "EU RO")}, "--region EU RO"),
        ({"cuda": "latest"}, "--cuda latest"),
        ({"network_volume": "a b"}, "--network-volume a b"),
        ({"network_volume": "vol1", "volume": 20}, "--network-volume vol1"),
        ({"min_memory": -4}, "--min-memory -4"),
        ({"image": ""}, "--image ''"),
        ({"image": "a b"}, "--image 'a b'"),
        ({"image": "a\n"}, "--image 'a\\n'"),
        ({"port": ("22",)}, "--port '22'"),
        ({"port": ("22/udp",)}, "--port '22/udp'"),
        ({"port": ("22/tcp", "0/tcp")}, "--port '0/tcp'"),
        ({"port": ("65536/http",)}, "--port '65536/http'"),
        ({"port": ("70000/http",)}, "--port '70000/http'"),
        ({"port": ("80000/tcp",)}, "--port '80000/tcp'"),
        ({"port": ("22/tcp,",)}, "--port ''"),
        ({"volume_mount": ""}, "--volume-mount ''"),
        ({"volume_mount": "data"}, "--volume-mount 'data'"),
        ({"volume_mount": "/data/../etc"}, "--volume-mount '/data/../etc'"),
        ({"volume_mount": "/a b"}, "--volume-mount '/a b'"),
        ({"volume_mount": "/data\n"}, "--volume-mount '/data\\n'"),
        ({"volume_mount": "/"}, "--volume-mount '/'"),
        ({"volume_mount": "//./"}, "--volume-mount '//./'"),
        ({"volume_mount": "//etc/"}, "--volume-mount '//etc/'"),
        ({"volume_mount": "/usr/lib"}, "--volume-mount '/usr/lib'"),
        ({"volume_mount": "/opt/"}, "--volume-mount '/opt/'"),
        ({"volume_mount": "/root"}, "--volume-mount '/root'"),
        ({"env": {"GITHUB_TOKEN": "hidden"}}, "--env 'GITHUB_TOKEN'"),
        ({"env": {"A": "hidden", "rp_owner": "hidden"}}, "--env 'rp_owner'"),
        ({"env": {"UID": "0"}}, "--env 'UID'"),
        ({"env": {"PATH": "/opt/bin:$PATH"}}, "--env 'PATH'"),
        ({"env": {"größe": "hidden"}}, "--env 'größe'"),
        ({"env": {"A": "hidden\0"}}, "--env 'A'"),
    ],
    ids=str,
)
def test_a_refusal_names_the_option_and_its_value(wrong: dict[str, object], told: str) -> None:
    """In one line, before anything is rented."""
    with pytest.raises(InvalidRequest) as caught:
        StartRequest(**wrong)  # type: ignore[arg-type] # fields of the request
    assert str(caught.value).startswith(f"{told}: ")
    assert str(caught.value).isprintable()
    assert "hidden" not in str(caught.value)


def test_ports_and_mount_point_take_their_plain_form() -> None:
    """A list of ports is taken apart, a path loses what means nothing."""
    request = StartRequest(port=("22/tcp, 8888/http", "70000/tcp"), volume_mount="//root/.cache/./hf/")
    assert request.port == ("22/tcp", "8888/http", "70000/tcp")
    assert request.volume_mount == "/root/.cache/hf"


def test_every_field_of_a_request_is_an_option_with_help() -> None:
    """Declared once: help, metavar and whether it repeats."""
    assert {field.name for field in options(StartRequest)} == set(StartRequest.__dataclass_fields__)
    assert all(field.metadata["help"].endswith(".") for field in options(StartRequest))


def test_the_defaults_are_those_of_the_plan() -> None:
    """Changing one is a decision."""
    assert StartRequest(label=("a", "b c")).label == ("a", "b c")
    request = StartRequest()
    assert request.gpus.models == ("NVIDIA RTX A4000", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 4090")
    assert str(request.max_price) == "1.00"
    assert (request.disk, request.volume, request.port) == (40, 0, ("22/tcp",))
    assert request.lifetime == timedelta(hours=6, minutes=15)


def test_an_offer_says_itself_in_a_line() -> None:
    """For logs and tables."""
    from decimal import Decimal  # noqa: PLC0415 - used here alone

    offer = Offer(provider="runpod", id="x", gpu_model="A4000", gpu_count=2, price=Decimal("0.4"), interruptible=True)
    assert str(offer) == "2 x A4000 interruptible at 0.4 USD/h (runpod)"


def test_a_hand_over_needs_the_ssh_port() -> None:
    """It is how the configuration comes."""
    assert StartRequest(registration=HowRegistered.JIT).registration is HowRegistered.JIT
    with pytest.raises(InvalidRequest, match="22/tcp"):
        StartRequest(registration=HowRegistered.JIT, port=("8888/http",))


def test_minimum_memory_alone_accepts_any_model() -> None:
    """With models beside it those are meant."""
    assert StartRequest(min_vram=24).gpus.models == ()
    assert StartRequest(min_vram=24, gpu=("A40",)).gpus.models == ("A40",)
    assert StartRequest().gpus.models == DEFAULT_GPUS


def test_a_budget_of_the_request_comes_before_that_of_the_environment() -> None:
    """Each span by itself."""
    request = StartRequest(budget_day=Decimal(5))
    budget = request.budgets(day=Decimal(9), month=Decimal(90))
    assert (budget.day, budget.month) == (Decimal(5), Decimal(90))


def test_the_cuda_floor_and_the_disks_are_part_of_what_a_market_is_asked_for() -> None:
    """The default image names one."""
    wish = StartRequest(disk=40, volume=10).gpus
    assert (wish.cuda, wish.disk_gb) == ("11.8", 50)
