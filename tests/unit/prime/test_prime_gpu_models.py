"""A GPU model is found by the names that other markets and people use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.domain.gpu_names import GpuName
from runner_provisioner.providers.prime.gpu_models import KNOWN, memory_of, named, refusal, unknown


@pytest.mark.parametrize(
    ("name", "gpu_type"),
    [
        ("NVIDIA RTX A4000", "A4000_16GB"),
        ("NVIDIA RTX A4000", "RTXA4000_16GB"),
        ("RTX A5000", "A5000_24GB"),
        ("A4000", "A4000_16GB"),
        ("NVIDIA GeForce RTX 4090", "RTX4090_24GB"),
        ("rtx 4090", "RTX4090_24GB"),
        ("RTX4090_24GB", "RTX4090_24GB"),
        ("rtx4090_24gb", "RTX4090_24GB"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX3090Ti_24GB"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada_48GB"),
        ("NVIDIA A100 80GB PCIe", "A100_80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100_80GB"),
        ("A100 SXM", "A100_40GB"),
        ("NVIDIA H100 80GB HBM3", "H100_80GB"),
        ("H100 PCIe", "H100_80GB"),
        ("NVIDIA L40S", "L40S_48GB"),
        ("NVIDIA H200", "H200_141GB"),
        ("Tesla V100-PCIE-16GB", "V100_16GB"),
        ("Tesla T4", "T4_16GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX_PRO_6000B_96GB"),
    ],
)
def test_a_model_is_known_by_its_other_names(name: str, gpu_type: str) -> None:
    """RunPod's ids and displayed names, short ones, and Prime's own in any case."""
    assert named(gpu_type, None, ["something else", name]) == name
    assert unknown([name], [gpu_type]) == []


@pytest.mark.parametrize(
    ("name", "gpu_type"),
    [
        ("RTX 4090", "RTX3090_24GB"),
        ("RTX 3090", "RTX3090Ti_24GB"),
        ("RTX 6000 Ada", "RTX6000_24GB"),
        ("RTX A6000", "RTX6000_24GB"),
        ("NVIDIA L40", "L40S_48GB"),
        ("A100 40GB", "A100_80GB"),
        ("NVIDIA H100 NVL", "H100_80GB"),
        ("NVIDIA", "RTX4090_24GB"),
        ("", "RTX4090_24GB"),
    ],
)
def test_a_similar_name_is_another_model(name: str, gpu_type: str) -> None:
    """Nobody gets another GPU than the one asked for."""
    assert named(gpu_type, None, [name]) is None


@pytest.mark.parametrize(
    ("name", "socket", "fits"),
    [
        ("NVIDIA A100-SXM4-80GB", "SXM4", True),
        ("NVIDIA A100-SXM4-80GB", "PCIe", False),
        ("NVIDIA A100 80GB PCIe", "PCIe", True),
        ("NVIDIA A100 80GB PCIe", "SXM4", False),
        ("A100 80GB", "SXM4", True),
        ("A100_80GB", "PCIe", True),
    ],
)
def test_a_name_that_says_the_socket_means_it(name: str, socket: str, *, fits: bool) -> None:
    """One that does not takes any."""
    assert (named("A100_80GB", socket, [name]) is not None) is fits


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    """So that a slip of the finger is seen."""
    assert unknown(["RTX4091", "A100"], KNOWN) == ["RTX4091"]
    assert "RTX4090_24GB" in str(refusal("RTX4091", KNOWN))
    assert "list of GPU models" in str(refusal("Voodoo?", ["X"]))


@pytest.mark.parametrize("gpu_type", KNOWN)
def test_every_documented_type_has_a_memory_and_is_itself_alone(gpu_type: str) -> None:
    """No two types mean the same to who names one in full."""
    assert memory_of(gpu_type) > 0
    assert [each for each in KNOWN if named(each, None, [gpu_type])] == [gpu_type]


@given(text=st.text(max_size=40))
def test_any_name_can_be_taken_apart(text: str) -> None:
    """It fits itself, or nothing."""
    read = GpuName.read(text)
    assert read.fits(text) is bool(read.model)


def test_a_type_that_does_not_say_its_memory_has_none() -> None:
    """CPU nodes, and words not known here."""
    assert memory_of("CPU_NODE") == 0
