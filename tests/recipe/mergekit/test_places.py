"""Messages about a parameter name the key and the line that the user wrote."""

import pytest

from evovlm.recipe.yaml_file import parse_recipe
from evovlm.system.errors import RecipeError

LINEAR = """\
merge_method: linear
dtype: float32
models:
  - model: zoo:ja
    parameters:
      weight: {value}
  - model: zoo:math
    parameters: {{weight: 1}}
"""
SLERP = """\
merge_method: slerp
base_model: zoo:ja
dtype: float32
models: [{{model: zoo:ja}}, {{model: zoo:math}}]
parameters:
  t: {value}
"""


def told(tmp_path, text: str) -> str:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text, tmp_path / "their.yml")
    return str(refused.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (".nan", ": nan is not a finite number"),
        ("-.inf", ": -inf is not a finite number"),
        ("'1e400'", ": '1e400' is not a finite number"),
        ("[]", ": missing for zoo:ja, model.embed_tokens.weight; give it a value"),
        ("[0, a]", ".1: 'a' is not a finite number"),
        ("[0, [1]]", ".1: [1] is not a number"),
        ("[{filter: mlp, value: [0, b]}, {value: 1}]", ".0.value.1: 'b' is not a finite number"),
        ("[{filter: mlp, value: 0}, 1]", ".1: 1 is not a condition; give `filter` and `value`"),
        ("[{filter: mlp}]", ".0: {'filter': 'mlp'} is not a condition; give `filter` and `value`"),
        ("[{filter: [mlp], value: 1}]", ".0.filter: must be a text, a part of tensors' names"),
        (
            "[{filter: mpl, value: 1}, {value: 0}]",
            ": the filter 'mpl' is part of no tensor's name; correct",
        ),
    ],
)
def test_a_wrong_weight_is_named_by_the_users_key_and_line(tmp_path, value: str, place: str):
    assert told(tmp_path, LINEAR.format(value=value)).startswith(f"their.yml:6: models.0.parameters.weight{place}")


def test_slerps_t_is_called_t(tmp_path):
    assert told(tmp_path, SLERP.format(value=".nan")) == "their.yml:6: parameters.t: nan is not a finite number"
    text = SLERP.replace("slerp", "dare_ties").replace("t: ", "weight: 1\n  density: ").format(value="[0.5, 2]")
    assert told(tmp_path, text).startswith("their.yml:7: parameters.density: ")


def test_a_base_that_no_list_names_is_named_by_its_own_key(tmp_path):
    text = LINEAR.format(value="0.5") + "base_model: zoo:base\n"
    line = text.splitlines().index("base_model: zoo:base") + 1
    assert told(tmp_path, text).startswith(
        f"their.yml:{line}: base_model: zoo:base is not among the models, counts as one of them with this method, and"
        " has no `weight`; list it"
    )


def test_a_weight_that_one_model_lacks_is_named_by_that_models_entry(tmp_path):
    text = LINEAR.format(value="0.5").replace("models:\n", "models:\n  - model: zoo:base\n")
    assert "models.0.parameters.weight: missing for zoo:base, " in told(tmp_path, text)
