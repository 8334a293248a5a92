"""The workflow check on files that are no workflows, or none that anybody would write: always an answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lint import COMMANDS, GOOD, WHOLE

from runner_provisioner.lint.checking import check_workflows
from runner_provisioner.lint.document import TEXT_LIMIT, MalformedYaml, read_document
from runner_provisioner.lint.findings import CHECKS, YAML, Finding, Severity
from runner_provisioner.lint.shell import commands, with_variables

pytestmark = pytest.mark.usefixtures("unmeasured")
MALFORMED = {
    "unclosed-list": ("a: [1,\n  2", 2),
    "tab": ("a:\n\t- b", 2),
    "nul": ("a: \0", 1),
    "lone-surrogate": ("a: \udcff", 1),
    "two-documents": ("a: 1\n---\nb: 2", 2),
    "undefined-alias": ("a: 1\nb: *x", 2),
    "loop-of-aliases": ("a: &a [*a]", 1),
    "character-beyond-unicode": ('a: "\\UFFFFFFFF"', 1),
    "endless-version": (f"%YAML 1.{'9' * 5000}\n---\na", 1),
    "deep-in-one-line": ("[" * 5000, 1),
    "deep-in-lines": ("\n".join(" " * level + "a:" for level in range(80)), 60),
    "too-long": ("#" * (TEXT_LIMIT + 1), 1),
    "avalanche": (
        "\n".join(["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]),
        1,
    ),
    "key-twice": ("a: 1\nb: 2\na: 3", 3),
    "key-is-a-mapping": ("? {a: b}\n: c", 1),
}


@pytest.mark.parametrize(("text", "line"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_yaml_is_one_finding_with_its_place(text: str, line: int) -> None:
    """File and line are named, and the message is one short line."""
    (found,) = check_workflows({"x.yml": text})
    assert (found.check, found.file) == (YAML, "x.yml")
    assert abs(found.line - line) <= 5
    assert len(found.message) < 300
    assert found.message.isprintable()


def test_text_keeps_its_words() -> None:
    """`on`, numbers and dates are words, null is nothing, and each value knows the line of its key."""
    node = read_document("on: yes\nn: 010\nz: ~\nq: '~'\nm:\n  k:\n    v")
    assert {name: node.get(name).text for name in node.entries} == {"on": "yes", "n": "010", "z": "", "q": "~", "m": ""}
    assert (node.get("m").get("k").line, node.get("m").get("k").text) == (6, "v")
    assert not node.get("missing").get("more").given
    assert node.get("z").given


def test_the_error_of_a_document_names_its_line() -> None:
    """The exception itself carries the line as well."""
    with pytest.raises(MalformedYaml) as seen:
        read_document("a: 1\nb: [")
    assert seen.value.line >= 2


WORDS = st.sampled_from(
    [
        "on", "jobs", "start", "stop", "runs-on", "needs", "steps", "uses", "run", "with", "mode", "key", "labels",
        "if", "env", "strategy", "matrix", "environment", "name", "outputs", "label", "container", "services", "group",
        "timeout-minutes", "continue-on-error", "id", "rent", "workflow_call", "pull_request_target", "schedule",
        "octo/runner_provisioner@v1", "./", "./.github/workflows/gpu-job.yml", "./.github/workflows/x.yml",
        'exec runner-provisioner start --key "$K"', "runner-provisioner stop || true", "always()", "null", "",
        "${{ needs.start.outputs.label }}", "${{ steps.rent.outputs.label }}", "${{ matrix.a }}", "${{ secrets.A }}",
        "${{", "}}", "rp-a", "self-hosted", "ubuntu-latest", "docker://x", "1", "true",
    ]
)  # fmt: skip
SHAPES = st.recursive(
    WORDS | st.none() | st.integers(0, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)
JOB = st.fixed_dictionaries(
    {},
    optional={
        "needs": st.sampled_from(["start", "train", "stop", ["start", "train"], ["stop"]]) | SHAPES,
        "runs-on": SHAPES,
        "if": SHAPES,
        "strategy": SHAPES,
        "outputs": st.dictionaries(WORDS, WORDS, max_size=2) | SHAPES,
        "uses": WORDS,
        "with": SHAPES,
        "env": SHAPES,
        "environment": SHAPES,
        "steps": st.lists(
            st.fixed_dictionaries(
                {}, optional={"id": WORDS, "uses": WORDS, "run": WORDS, "if": SHAPES, "with": SHAPES, "env": SHAPES}
            ),
            max_size=3,
        )
        | SHAPES,
    },
)
WORKFLOW = st.fixed_dictionaries(
    {"jobs": st.dictionaries(st.sampled_from(["start", "train", "stop"]), JOB | SHAPES, max_size=3)},
    optional={"on": SHAPES, "env": SHAPES},
)


def check_answer(findings: list[Finding]) -> None:
    """Every finding can be shown."""
    for one in findings:
        assert one.check in CHECKS
        assert one.line >= 1
        assert one.message.isprintable()
        assert "\n" not in str(one) + one.annotation


@settings(max_examples=120, deadline=None)
@given(WORKFLOW, SHAPES)
def test_workflows_of_any_shape_have_an_answer(workflow: dict[str, object], other: object) -> None:
    """Whatever is where something else is expected, nothing is raised."""
    import json  # noqa: PLC0415 - JSON is YAML

    check_answer(check_workflows({"a.yml": json.dumps(workflow)}, context={"x.yml": json.dumps(other)}))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GOOD, COMMANDS, WHOLE]), st.data())
def test_workflows_with_lines_lost_and_moved_have_an_answer(text: str, data: st.DataObject) -> None:
    """Neither does a file in the middle of being written."""
    lines = text.splitlines()
    kept = data.draw(st.lists(st.sampled_from(range(len(lines))), max_size=len(lines), unique=True))
    check_answer(check_workflows({"a.yml": "\n".join(lines[place] for place in kept)}))
    check_answer(check_workflows({"a.yml": "\n".join(line for place, line in enumerate(lines) if place not in kept)}))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="-:[]{}&*!|>'\"%@`,? \n\tab#", max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    """Not even the reader of YAML fails."""
    check_answer(check_workflows({"a.yml": text}))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "runner-provisioner",
                "start",
                "stop",
                "--key",
                "'",
                '"',
                "$K",
                "${{",
                "}}",
                "|",
                "||",
                "&",
                ";",
                "\n",
                "\\\n",
                "#",
                "\0",
                "exec",
                "nix",
                "(",
                ")",
                "{",
                "}",
                "$(",
                "if",
                "a=$",
            ]
        ),
        max_size=12,
    )
)
def test_any_script_has_an_answer(parts: list[str]) -> None:
    """No script makes the search for commands fail."""
    for command in commands(" ".join(parts), pipefail=False):
        for key in command.values("--key"):
            with_variables(key, {"K": "${{ matrix.a }}"})


def test_brackets_may_be_deeper_than_python_calls() -> None:
    """Neither open ones nor closed ones are too many."""
    (found,) = commands("(" * 5000 + "runner-provisioner stop" + ")" * 4000 + " || true", pipefail=False)
    assert found.swallowed


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a-$K", "a-${{matrix.a}}"),
        ("${K}-${{ inputs.b }}", "${{matrix.a}}-${{inputs.b}}"),
        ("$GITHUB_JOB", "${{github.job}}"),
        ("${{ format('a b {0}', x) }}", "${{format('a b {0}',x)}}"),
        ("$(date)", None),
        ("`date`", None),
        ("$UNKNOWN", None),
        ("${K:-x}", None),
    ],
    ids=str,
)
def test_variables_are_put_in_where_they_are_known(word: str, value: str | None) -> None:
    """From the file's own env and the runner's; anything else cannot be known."""
    assert with_variables(word, {"K": "${{ matrix.a }}"}) == value


def test_a_finding_reads_like_a_compilers() -> None:
    """File, line, severity, message and id, in one line."""
    found = Finding(check=YAML, message="m", file="a.yml", line=3)
    assert str(found) == "a.yml:3: error: m [yaml]"
    assert found.severity is Severity.ERROR


def test_annotations_are_escaped() -> None:
    """Neither a file's name nor a message can end the command or begin another."""
    found = Finding(check=YAML, message="100%\r\n::error::x", file="a,b:c%\n.yml", line=3)
    assert found.annotation == "::error file=a%2Cb%3Ac%25%0A.yml,line=3,title=yaml::100%25%0D%0A::error::x"


def test_ids_are_words() -> None:
    """Each check has an id of its own, in small letters and dashes."""
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", one) for one in ids)
