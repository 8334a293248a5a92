"""The expression language, as GitHub documents it."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner_provisioner.simulators.workflow.errors import WorkflowError
from runner_provisioner.simulators.workflow.expressions import (
    Scope,
    asks_status,
    evaluate,
    holds,
    needed_outputs,
    render,
    resolve,
)
from runner_provisioner.simulators.workflow.syntax import parse
from runner_provisioner.simulators.workflow.values import equal, less, to_number, to_string, truthy

SCOPE = Scope(
    contexts={
        "github": {"event_name": "push", "ref": "refs/heads/main", "run_id": 7, "event": {"labels": []}},
        "env": {"EMPTY": "", "A-B": "dash"},
        "fruits": [{"name": "apple", "sizes": [1, 2]}, {"name": "pear", "sizes": [3]}, 4],
        "numbers": [1, 2, 3],
    },
    status={"success": True, "failure": False, "always": True, "cancelled": False},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("null", None, id="null"),
        pytest.param("true", True, id="true"),
        pytest.param("711", 711, id="integer"),
        pytest.param("-9.2", -9.2, id="negative"),
        pytest.param("0xff", 255, id="hexadecimal"),
        pytest.param("0o17", 15, id="octal"),
        pytest.param("-2.99e-2", -0.0299, id="exponent"),
        pytest.param("Infinity", math.inf, id="infinity"),
        pytest.param("'It''s'", "It's", id="quoted quote"),
        pytest.param("github.event_name", "push", id="dot"),
        pytest.param("GITHUB.Event_Name", "push", id="any case"),
        pytest.param("github['ref']", "refs/heads/main", id="index"),
        pytest.param("env.A-B", "dash", id="dash in a name"),
        pytest.param("github.nothing.at.all", None, id="missing is null"),
        pytest.param("numbers[1]", 2, id="list index"),
        pytest.param("numbers['1']", 2, id="list index as text"),
        pytest.param("numbers[9]", None, id="list index too large"),
        pytest.param("numbers[-1]", None, id="negative list index"),
        pytest.param("numbers['x']", None, id="list index no number"),
        pytest.param("fruits.*.name", ["apple", "pear"], id="star"),
        pytest.param("fruits[*].sizes[0]", [1, 3], id="star then index"),
        pytest.param("fruits.*.sizes.*", [1, 2, 3], id="star twice"),
        pytest.param("github.event.labels.*.name", [], id="star of nothing"),
        pytest.param("github.run_id.*", [], id="star of a number"),
        pytest.param("github.event.*.*", [], id="star of an object"),
        pytest.param("'A' == 'a'", True, id="text without case"),
        pytest.param("'A' != 'b'", True, id="unlike text"),
        pytest.param("1 == '1'", True, id="number and text"),
        pytest.param("null == 0", True, id="null and zero"),
        pytest.param("true == 1", True, id="true and one"),
        pytest.param("'' == 0", True, id="empty and zero"),
        pytest.param("'x' == 0", False, id="text is no number"),
        pytest.param("numbers == numbers", True, id="the same list"),
        pytest.param("numbers == fruits", False, id="another list"),
        pytest.param("numbers == 'Array'", False, id="list and text"),
        pytest.param("null == null", True, id="null twice"),
        pytest.param("1 < 2", True, id="less"),
        pytest.param("2 <= 2", True, id="less or equal"),
        pytest.param("'b' > 'A'", True, id="greater text"),
        pytest.param("2 >= 3", False, id="greater or equal"),
        pytest.param("'x' < 1", False, id="text less than number"),
        pytest.param("!true", False, id="not"),
        pytest.param("!!'a'", True, id="not not"),
        pytest.param("'a' && 'b'", "b", id="and gives an operand"),
        pytest.param("'' && 'b'", "", id="and stops"),
        pytest.param("'' || 'b'", "b", id="or gives an operand"),
        pytest.param("'a' || fromJSON('no json')", "a", id="or stops"),
        pytest.param("false || null || 0 || 'last'", "last", id="long or"),
        pytest.param("true && 1 == 2 || 'x'", "x", id="priorities"),
        pytest.param("(1 == 1) == true", True, id="parentheses"),
        pytest.param("contains('Hello', 'ELL')", True, id="contains text"),
        pytest.param("contains(fruits.*.name, 'Pear')", True, id="contains element"),
        pytest.param("contains(numbers, '2')", True, id="contains loosely"),
        pytest.param("contains('x', numbers)", False, id="contains no list"),
        pytest.param("contains(github, 'x')", False, id="contains of an object"),
        pytest.param("startsWith('Hello', 'he')", True, id="startsWith"),
        pytest.param("ENDSWITH('Hello', 'LO')", True, id="endsWith"),
        pytest.param("endsWith(numbers, 'x')", False, id="endsWith of a list"),
        pytest.param("format('{{{0}}} {1} {0}', 'a', 2)", "{a} 2 a", id="format"),
        pytest.param("join(numbers)", "1,2,3", id="join"),
        pytest.param("join(numbers, ' - ')", "1 - 2 - 3", id="join with separator"),
        pytest.param("join(numbers, numbers)", "1,2,3", id="join with a strange separator"),
        pytest.param("join('a', '-')", "a", id="join of text"),
        pytest.param("join(github)", "", id="join of an object"),
        pytest.param("toJSON(numbers)", "[\n  1,\n  2,\n  3\n]", id="toJSON"),
        pytest.param("toJSON(1.0)", "1", id="toJSON of a whole number"),
        pytest.param("toJSON(github.event)", '{\n  "labels": []\n}', id="toJSON of an object"),
        pytest.param("fromJSON('{\"a\": [1, true]}').a[1]", True, id="fromJSON"),
        pytest.param("case(false, 1, true, 2, 3)", 2, id="case"),
        pytest.param("case(1 == 2, 1, 3)", 3, id="case default"),
        pytest.param("success() && !failure() && always() && !cancelled()", True, id="status"),
    ],
)
def test_an_expression_has_the_documented_value(text: str, value: object) -> None:
    """Each kind of expression, one by one."""
    assert evaluate(text, SCOPE) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "the end", id="empty"),
        pytest.param("1 +", "is no part", id="unknown operator"),
        pytest.param('"double"', "is no part", id="double quotes"),
        pytest.param("'open", "is no part", id="open quote"),
        pytest.param("(1", "the end", id="open parenthesis"),
        pytest.param("1 2", "'2' is not expected", id="two values"),
        pytest.param("a.", "the end", id="open dot"),
        pytest.param("a.1", "'.1' is not expected", id="number after dot"),
        pytest.param("contains('a' 'b')", "not expected", id="no comma"),
        pytest.param("contains('a')", "1 arguments", id="too few"),
        pytest.param("success(1)", "1 arguments", id="too many"),
        pytest.param("shout('a')", "no function 'shout'", id="unknown function"),
        pytest.param("planet.name", "no 'planet'", id="unknown context"),
        pytest.param("hashFiles('**')", "hashFiles", id="hashFiles"),
        pytest.param("fromJSON('{')", "no JSON", id="bad JSON"),
        pytest.param("format('{1}', 'a')", "no argument for {1}", id="format without argument"),
        pytest.param("format('{', 'a')", "no argument for {", id="format with lone brace"),
        pytest.param("case(true, 1, 2, 3)", "pairs", id="case without default"),
        pytest.param("(" * 60 + "1" + ")" * 60, "deeper", id="nested too deep"),
        pytest.param("a" + ".b" * 60, "deeper", id="chained too long"),
        pytest.param("1" + " && 1" * 6000, "longer", id="too long"),
    ],
)
def test_a_bad_expression_is_refused_with_its_reason(text: str, complaint: str) -> None:
    """Never another exception, and always a word about the cause."""
    with pytest.raises(WorkflowError, match=complaint.replace("(", r"\(")):
        evaluate(text, SCOPE)


def test_status_functions_work_in_if_only() -> None:
    """Where no status is given, success() is an error."""
    with pytest.raises(WorkflowError, match="works in 'if' only"):
        evaluate("success()", Scope(contexts={}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(None, "", id="null"),
        pytest.param(True, "true", id="bool"),
        pytest.param(1.0, "1", id="whole float"),
        pytest.param(1.5, "1.5", id="float"),
        pytest.param(math.nan, "NaN", id="nan"),
        pytest.param(-math.inf, "-Infinity", id="infinity"),
        pytest.param([1], "Array", id="list"),
        pytest.param({}, "Object", id="mapping"),
        pytest.param(10**400, "Infinity", id="huge"),
    ],
)
def test_values_become_text_as_documented(value: object, text: str) -> None:
    """What a template prints."""
    assert to_string(value) == text


@pytest.mark.parametrize(
    ("value", "number"),
    [
        pytest.param("", 0.0, id="empty"),
        pytest.param(" 12 ", 12.0, id="blanks"),
        pytest.param("0x10", 16.0, id="hexadecimal"),
        pytest.param("-Infinity", -math.inf, id="infinity"),
        pytest.param(False, 0.0, id="false"),
        pytest.param("0x" + "f" * 400, math.inf, id="huge"),
    ],
)
def test_values_become_numbers_as_documented(value: object, number: float) -> None:
    """What a comparison of unlike kinds uses."""
    assert to_number(value) == number


@pytest.mark.parametrize("value", [False, 0, 0.0, math.nan, "", None], ids=repr)
def test_falsy_values(value: object) -> None:
    """These and no others."""
    assert not truthy(value)


@pytest.mark.parametrize("value", [True, 1, "0", "false", [], {}], ids=repr)
def test_truthy_values(value: object) -> None:
    """An empty list is one of them."""
    assert truthy(value)


def test_a_template_of_one_expression_keeps_its_type() -> None:
    """And mixed with text everything becomes text, at any depth of a YAML value."""
    assert resolve("${{ numbers }}", SCOPE) == [1, 2, 3]
    assert resolve({"a": ["x${{ numbers[0] }}y", 5]}, SCOPE) == {"a": ["x1y", 5]}
    assert render("${{ '}}' }}-${{ github.run_id }}", SCOPE) == "}}-7"


def test_an_open_template_is_refused() -> None:
    """The end of the text is no end of an expression."""
    with pytest.raises(WorkflowError, match="without"):
        render("${{ 'a }}", SCOPE)


@pytest.mark.parametrize(
    ("condition", "status", "expected"),
    [
        pytest.param(None, True, True, id="none after success"),
        pytest.param(None, False, False, id="none after failure"),
        pytest.param("github.run_id == 7", True, True, id="true"),
        pytest.param("github.run_id == 7", False, False, id="implied success"),
        pytest.param("always()", False, True, id="always"),
        pytest.param("${{ !success() }}", False, True, id="with braces"),
        pytest.param(False, True, False, id="YAML false"),
    ],
)
def test_a_condition_implies_success(condition: object, status: bool, expected: bool) -> None:  # noqa: FBT001 - a case
    """Unless it asks for the status itself."""
    scope = Scope(contexts=SCOPE.contexts, status={**SCOPE.status, "success": status})
    assert holds(condition, scope) is expected


def test_a_condition_that_mixes_text_and_braces_is_refused() -> None:
    """At GitHub it would be a text, and so always true."""
    with pytest.raises(WorkflowError, match="always be true"):
        holds("${{ false }} && true", SCOPE)


def test_needed_outputs_finds_jobs_by_name() -> None:
    """In every spelling, and nothing else."""
    text = "x ${{ needs.start.outputs.label }} ${{ NEEDS['a-b'].outputs.x || needs.c.result || github.ref }}"
    assert needed_outputs(text) == [("start", "label"), ("a-b", "x")]
    assert not asks_status("needs.start.outputs.success")


@given(st.text(max_size=80))
def test_no_text_crashes_the_parser(text: str) -> None:
    """A WorkflowError is the only way out."""
    with contextlib.suppress(WorkflowError):
        parse(text)


_WORDS = "( ) [ ] . * , ! && || == != < <= 'a' 1 0x1 -2 null true github numbers contains format fromJSON success"


@given(st.lists(st.sampled_from(_WORDS.split()), max_size=40))
def test_no_mixture_of_words_crashes_the_evaluation(words: list[str]) -> None:
    """Whatever parses evaluates to a value or to a WorkflowError."""
    with contextlib.suppress(WorkflowError):
        evaluate(" ".join(words), SCOPE)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(_VALUES, _VALUES)
def test_comparisons_are_consistent(left: object, right: object) -> None:
    """Equality is symmetric, and nothing is equal and less at once."""
    assert equal(left, right) == equal(right, left)
    assert not (less(left, right) and (equal(left, right) or less(right, left)))
