"""A recipe's own chat template is rendered before anything is merged."""

import pytest

from evovlm.merging.check._tokenizers import check_chat_template
from evovlm.recipe.mergekit import _templates
from evovlm.recipe.schema import Recipe


def problems(template: str | None) -> list[str]:
    content = {"kind": "llm", "sources": [{"name": "a", "model": "zoo:ja"}], "owner": "a", "method": "linear"}
    recipe = Recipe.model_validate(content | {"chat_template": template})
    found = list(check_chat_template(recipe))
    assert all((one.level, one.key) == ("error", "chat_template") for one in found)
    return [one.text for one in found]


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for m in messages %}{{ m.content }}", "TemplateSyntaxError"),
        ("{{ messages[7].content + nobody.home }}", "UndefinedError"),
        ("", "leaves out the question"),
        ("no question here", "leaves out the question"),
        ("{% for p in messages[0].content %}{{ p.type }}{% endfor %}", "leaves out the question"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused_with_its_key(template: str, told: str):
    (text,) = problems(template)
    assert told in text
    assert "correct it or remove the key" in text


def test_templates_for_texts_for_pictures_and_mergekits_named_ones_pass():
    parts = (
        "{% for m in messages %}{% for p in m.content %}{{ p.type + bos_token }}{{ p.text }}{% endfor %}{% endfor %}"
    )
    for template in (None, "{{ 'x' + messages[0].content + eos_token }}", parts, *_templates.NAMED.values()):
        assert problems(template) == []
